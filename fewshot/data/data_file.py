"""What a run's data are: a file beside its results that says of each dataset what was used, what was not and why."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from episodes.errors import UserError
from episodes.files import write_text
from episodes.json_text import JSONTextError, read_json
from episodes.policies import count_by_reason
from episodes.records import LABELS
from episodes.store import Store

DATA = "data.json"


def data_record(stores: Iterable[Store]) -> dict[str, Any]:
    """Describe datasets, by name.

    Returns:
        For each, `store`, which depends on the content of its files; its `policy`; how many images are `kept`, in all,
        of how many patients and of each label; how many are `dropped` for each reason; and each of these by id.
    """
    return {store.records[0].dataset: _describe(store) for store in stores}


def write_data_record(folder: Path, stores: Iterable[Store], *, going_on: bool = False) -> None:
    """Write the data that a run uses to its folder, `data.json`.

    Args:
        folder: the run's.
        stores: the datasets.
        going_on: whether the run was begun before, so that the data must be those that it began with.

    Raises:
        UserError: if they are not.
        StorageError: if the file cannot be written.
    """
    record, path = data_record(stores), folder / DATA
    if going_on and path.is_file() and (changed := _changed(path, record)):
        raise UserError(
            f"{path}: the run there began with other data: since then files, corrections or the curated list of"
            f" {', '.join(changed)} have changed; give another name, or delete its folder"
        )
    write_text(path, json.dumps(record, indent=1) + "\n")


def _describe(store: Store) -> dict[str, Any]:
    labels = Counter(record.label for record in store.records)
    return {
        "store": store.folder.name,
        "policy": dict(store.policy),
        "kept": {
            "images": len(store.records),
            "patients": len({record.patient_id for record in store.records}),
            **{label: labels[label] for label in LABELS},
        },
        "dropped": count_by_reason(store.dropped),
        "dropped_images": [asdict(one) for one in store.dropped],
    }


def _changed(path: Path, record: dict[str, Any]) -> list[str]:
    """The datasets that a file does not describe as they are."""
    try:
        found = read_json(path)
    except (OSError, JSONTextError):
        found = None
    before = found if isinstance(found, dict) else {}
    return [name for name in record if before.get(name) != record[name]]
