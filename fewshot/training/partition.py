"""The division of a training's sources into images to train on, to validate on and to keep for a test."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from torch import nn

from episodes.errors import ManifestError, SamplingError
from episodes.io.files import read_text
from episodes.records import LABELS, Record
from episodes.sampling.splits import (
    LEFT_OUT,
    Crossing,
    find_crossings,
    k_folds,
    look_alikes_together,
    read_split,
    split_records,
)
from episodes.storage.store import Collection
from fewshot.config.parsing import ConfigError
from fewshot.config.training import TrainConfig

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
"""The parts of a split that a training uses; images in the part `left-out` are in none of them."""

SHOWN = 3


def read_parts(path: Path, records: Sequence[Record], grouped: Sequence[Record]) -> dict[str, set[str]]:
    """Read the ids of each part of a split on disk, which keeps patients apart and so near-duplicates.

    `grouped` are the same records, patients merged where images look alike. Where such a group is on two sides there is
    a warning and no more: that two look alike is a guess.

    Raises:
        ManifestError: if it is no split of these records, has other parts or none to train on, or has a patient on two
            sides.
    """
    split = read_split(path, records)
    parts: dict[str, set[str]] = {}
    for record_id, part in split.parts.items():
        parts.setdefault(part, set()).add(record_id)
    if unknown := sorted(parts.keys() - {*PARTS, LEFT_OUT}):
        raise ManifestError(f"{path}: has the part {unknown[0]!r}; a training knows {', '.join((*PARTS, LEFT_OUT))}")
    if "train" not in parts:
        raise ManifestError(f"{path}: has no part 'train'; a training needs one")
    sides = {record_id: part for record_id, part in split.parts.items() if part != LEFT_OUT}
    if crossings := find_crossings(records, sides):
        raise ManifestError(
            f"{path}: {describe_crossings(crossings, 'patient', 'part')}; near-duplicates count as one patient's;"
            " `fewshot data split` keeps patients apart"
        )
    if crossings := find_crossings(grouped, sides):
        logger.warning("%s: %s", path, describe_crossings(crossings, "look-alike group", "part"))
    return {part: ids for part, ids in parts.items() if part != LEFT_OUT}


def split_hash(path: Path) -> str:
    """Hash a split's file, so that a training goes on with the same one alone.

    Raises:
        ManifestError: if there is no such file.
    """
    return sha256(read_text(path, "split").encode()).hexdigest()[:16]


def describe_crossings(crossings: Sequence[Crossing], who: str, where: str) -> str:
    """Say how many are on two sides, and name the first few.

    >>> describe_crossings([Crossing("d/p", {"1": ["d/a"], "2": ["d/b"]})], "patient", "fold")
    '1 patient is in more than one fold: d/p in 1 (d/a) and 2 (d/b)'
    """
    how_many = f"1 {who} is" if len(crossings) == 1 else f"{len(crossings)} {who}s are"
    more = f"; and {len(crossings) - SHOWN} more" if len(crossings) > SHOWN else ""
    return f"{how_many} in more than one {where}: {'; '.join(map(str, crossings[:SHOWN]))}{more}"


class SplitPart(Collection):
    """Some of a collection's records, in the same stores."""

    def __init__(self, whole: Collection, records: Iterable[Record]) -> None:
        super().__init__(whole.stores)
        self._records = tuple(records)

    @property
    def records(self) -> tuple[Record, ...]:
        """Return the part's records alone."""
        return self._records


@dataclass(frozen=True, slots=True)
class Partition:
    """The parts of a training's sources; no patient, and so no near-duplicate, is in two of them.

    The test part is never seen in training, and holds images of all labels; None where all are trained on.
    """

    train: SplitPart
    validation: SplitPart | None
    test: SplitPart | None


def divide(sources: Collection, config: TrainConfig) -> Partition:
    """Divide the sources as the configuration asks for.

    Raises:
        SamplingError: if there are too few patients for the parts, or a part has no image of `train.labels`.
        ManifestError: if the split on disk is none of these sources, or has a patient on two sides.
    """
    whole = SplitPart(sources, sources.records)
    divided = config.train.validation or config.test_share or config.test_fold or config.split
    grouped = look_alikes_together(whole) if divided else whole.records
    try:
        names = _parts(whole, grouped, config)
    except SamplingError as error:
        raise SamplingError(f"{_asked_for(config)}: {error}; change the shares, or leave them out") from error
    parts = {
        part: SplitPart(whole, (record for record in whole.records if record.id in ids)) for part, ids in names.items()
    }
    for part in parts.keys() - {"train"}:
        patients = len({record.patient_id for record in grouped if record.id in names[part]})
        logger.info("%s: %d images of %d patients are held out", part, len(parts[part].records), patients)
    chosen = {name: _with_labels(part, config.train.labels, name) for name, part in parts.items() if name != "test"}
    return Partition(chosen["train"], chosen.get("validation"), parts.get("test"))


def _with_labels(part: SplitPart, labels: Sequence[str], name: str) -> SplitPart:
    chosen = SplitPart(part, (record for record in part.records if record.label in labels))
    if not chosen.records:
        raise SamplingError(
            f"the {name} part of the sources has {len(part.records)} images, and none of train.labels,"
            f" {', '.join(labels)}; add labels or a source, or change the shares or split_seed"
        )
    return chosen


def _parts(whole: SplitPart, grouped: Sequence[Record], config: TrainConfig) -> dict[str, set[str]]:
    """Return the ids of each part, of records whose patients are merged where they look alike."""
    given, rest = _given_parts(whole, grouped, config)
    shares = {"test": config.test_share}
    if config.train.validation and "validation" not in given:
        shares = {"validation": config.train.validation.share, **shares}
    held_out = {part: share for part, share in shares.items() if share}
    if not held_out:
        return {"train": {record.id for record in rest}, **given}
    fractions = {"train": 1 - sum(held_out.values()), **held_out}
    split = split_records(rest, fractions, config.split_seed)
    return {part: {record.id for record in split.select(rest, part)} for part in fractions} | given


def _given_parts(
    whole: SplitPart, grouped: Sequence[Record], config: TrainConfig
) -> tuple[dict[str, set[str]], list[Record]]:
    """Return what a split on disk or a fold holds out already, and the records left to train on, or to divide."""
    if config.split is not None:
        parts = read_parts(config.split, whole.records, grouped)
        held_out = {"test": "test"} | ({"validation": "val"} if config.train.validation else {})
        given = {part: parts[name] for part, name in held_out.items() if name in parts}
        if unused := parts.get("val", set()) - given.get("validation", set()):
            logger.info("val: %d images of the split are not used, as there is no train.validation", len(unused))
        return given, [record for record in grouped if record.id in parts["train"]]
    if config.test_fold is not None:
        fold = k_folds(grouped, config.test_fold.of, config.split_seed)[config.test_fold.index]
        return {"test": {record.id for record in fold.select(grouped, "test")}}, fold.select(grouped, "train")
    return {}, list(grouped)


def _asked_for(config: TrainConfig) -> str:
    """Name the keys that a division depends on, for errors."""
    validation = config.train.validation.share if config.train.validation else 0.0
    test = f"test_share {config.test_share:g}"
    if config.test_fold is not None:
        test = f"test_fold {config.test_fold.index} of {config.test_fold.of}"
    if config.split is not None:
        test = f"split {config.split}"
    return f"{test}, train.validation.share {validation:g}"


def require_labels(network: nn.Module, partition: Partition) -> None:
    """Refuse to train or validate without images of what a supervised network tells apart.

    Raises:
        ConfigError: names the label, and the part that has none of it.
    """
    # A network of the user's own need not say what it tells apart.
    names = (*getattr(network, "labels", ()), *getattr(network, "classes", ()))
    told_apart = [name for name in names if name in LABELS]
    for name, part in (("train", partition.train), ("validation", partition.validation)):
        if part is None:
            continue
        found = {record.label for record in part.records}
        if missing := [label for label in dict.fromkeys(told_apart) if label not in found]:
            raise ConfigError(
                f"the {name} part of the sources has no {' and no '.join(missing)} image, which the model"
                f" ({type(network).__name__}) is to tell from others; add a source that has some, or change the shares,"
                " split_seed or model.options.labels"
            )
