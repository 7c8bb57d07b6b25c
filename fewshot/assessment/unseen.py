"""Which images are judged on: those that no checkpoint was trained on or adapted to."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from episodes.errors import UserError
from episodes.records import Record
from episodes.store import Store
from fewshot.data.support_folder import image_hashes

logger = logging.getLogger(__name__)

Trainings = Mapping[Path, Mapping[str, Any]]
"""What checkpoints say of their trainings."""


def name_in_training(trainings: Trainings, reader: str, data: Path) -> str:
    """The name that a dataset had as a source of a training; else that of its reader.

    Sources are known by reader and folder, of which a checkpoint keeps what its configuration said.
    """
    folders = {data.absolute(), data.resolve()}
    for path, facts in trainings.items():
        for name in _sources(path, facts):
            source = facts["datasets"][name]
            if source["reader"] == reader and any(_ends_with(folder, source["root"]) for folder in folders):
                return str(name)
    return reader.partition(":")[0]


def _ends_with(folder: Path, root: str | None) -> bool:
    parts = [part for part in PurePath(root or "").parts if part != ".."]
    return bool(parts) and list(folder.parts[-len(parts) :]) == parts


def unseen_records(store: Store, trainings: Trainings) -> list[Record]:
    """The records of a dataset that were in no training: all of one that was no source, else the common test part.

    Raises:
        UserError: if a checkpoint was trained on all of the dataset, or kept a test part of other files.
    """
    name = store.records[0].dataset
    records = list(store.records)
    for path, facts in trainings.items():
        if name in _sources(path, facts):
            test = _test_part(store, path, facts)
            records = [record for record in records if record.id in test]
    if not records:
        raise UserError(f"{name}: the checkpoints' test parts have no image in common; judge them one by one")
    return records


def _sources(path: Path, facts: Mapping[str, Any]) -> list[str]:
    if not {"sources", "datasets"} <= facts.keys():
        raise UserError(f"{path}: does not say what it was trained on, so nothing is known to be unseen by it")
    return list(facts["sources"])


def _test_part(store: Store, path: Path, facts: Mapping[str, Any]) -> set[str]:
    known = {record.id: record.dataset for record in store.records}
    name = store.records[0].dataset
    test = {record_id for record_id in facts.get("test_ids", ()) if record_id.startswith(f"{name}/")}
    if not test:
        raise UserError(
            f"{path}: was trained on all of {name}, so that its scores there would mean nothing; train with test_share,"
            " judge it on another dataset, or give --part all to do it nonetheless"
        )
    if foreign := test - known.keys():
        raise UserError(
            f"{path}: its test part of {name} has {len(foreign)} images that are not here, such as {min(foreign)};"
            " give the folder that it was trained on, or another --name if it is another dataset"
        )
    return test


def without_shown(store: Store, records: Sequence[Record], shown: Iterable[str]) -> list[Record]:
    """The records of patients of whom no image was shown to a method as a support image.

    Args:
        store: holds the records' pixels.
        records: of the store.
        shown: hashes of the support images, as `image_hashes` gives them: a support folder has names of its own.

    Raises:
        UserError: if no record is left.
    """
    hashes = set(shown)
    if not hashes:
        return list(records)
    found = zip(store.records, image_hashes(store.images), strict=True)
    patients = {record.patient_id for record, name in found if name in hashes}
    left = [record for record in records if record.patient_id not in patients]
    if not left:
        raise UserError(
            f"{store.records[0].dataset}: every patient has an image among the annotated ones, so that none is left to"
            " judge on; give other data, or --part all to judge on them nonetheless"
        )
    if len(left) < len(records):
        logger.info("%d images are of patients among the annotated images, and left out", len(records) - len(left))
    return left
