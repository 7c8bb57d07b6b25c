"""Which of the sources' images are trained on, validated on and kept for a test."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from episodes.duplicates import duplicate_groups, group_patients
from episodes.errors import SamplingError
from episodes.records import LABELS, Record
from episodes.splits import k_folds, split_records
from episodes.store import Collection, Store
from fewshot.config import TrainConfig
from fewshot.parsing import ConfigError

logger = logging.getLogger(__name__)

# Correlation of thumbnails from which two images are taken to be of one patient. In BUS-UCLM and BUS-BRA, which name
# their patients, none of the 38 pairs above it are of two patients; in BUSI 342 images have such a look-alike.
LOOK_ALIKE = 0.9


class Part(Collection):
    """Some of a collection's records, in the same stores."""

    def __init__(self, whole: Collection, records: Iterable[Record]) -> None:
        super().__init__(whole.stores)
        self._records = tuple(records)

    @property
    def records(self) -> tuple[Record, ...]:
        """The part's records alone."""
        return self._records

    def labelled(self, labels: Sequence[str]) -> "Part":
        """Those of its records that have one of these labels."""
        return Part(self, (record for record in self.records if record.label in labels))


@dataclass(frozen=True, slots=True)
class Partition:
    """The parts of a training's sources; no patient, and so no near-duplicate, is in two of them.

    Attributes:
        train: changes the weights.
        validation: chooses among them; None without validation.
        test: is never seen in training, and holds images of all labels; None where all are trained on.
    """

    train: Part
    validation: Part | None
    test: Part | None


def divide(sources: Collection, config: TrainConfig) -> Partition:
    """Divide the sources as the configuration asks for.

    Raises:
        SamplingError: if there are too few patients for the parts, or a part has no image of `train.labels`.
    """
    how = config.train
    whole = without_duplicates(sources) if how.duplicates == "dropped" else Part(sources, sources.records)
    grouped = look_alikes_together(whole) if how.validation or config.test_share or config.test_fold else whole.records
    try:
        names = _parts(grouped, config)
    except SamplingError as error:
        raise SamplingError(f"{_asked_for(config)}: {error}; change the shares, or leave them out") from error
    parts = {part: Part(whole, (record for record in whole.records if record.id in ids)) for part, ids in names.items()}
    for part in parts.keys() - {"train"}:
        patients = len({record.patient_id for record in grouped if record.id in names[part]})
        logger.info("%s: %d images of %d patients are held out", part, len(parts[part].records), patients)
    chosen = {part: _labelled(parts[part], how.labels, part) for part in parts if part != "test"}
    return Partition(chosen["train"], chosen.get("validation"), parts.get("test"))


def _parts(grouped: Sequence[Record], config: TrainConfig) -> dict[str, set[str]]:
    """The ids of each part, of records whose patients are merged where they look alike."""
    validation = config.train.validation.share if config.train.validation else 0.0
    rest, parts = list(grouped), dict[str, set[str]]()
    shares = {"validation": validation, "test": config.test_share}
    if config.test_fold is not None:
        folds = k_folds(grouped, config.test_fold.of, config.split_seed)
        test = folds[config.test_fold.index].select(grouped, "test")
        parts["test"] = {record.id for record in test}
        rest = [record for record in grouped if record.id not in parts["test"]]
    held_out = {part: share for part, share in shares.items() if share}
    if not held_out:
        return {"train": {record.id for record in rest}, **parts}
    fractions = {"train": 1 - sum(held_out.values()), **held_out}
    split = split_records(rest, fractions, config.split_seed)
    return {part: {record.id for record in split.select(rest, part)} for part in fractions} | parts


def _asked_for(config: TrainConfig) -> str:
    """The keys that a division depends on, for errors."""
    validation = config.train.validation.share if config.train.validation else 0.0
    fold = config.test_fold
    test = f"test_share {config.test_share:g}" if fold is None else f"test_fold {fold.index} of {fold.of}"
    return f"{test}, train.validation.share {validation:g}"


def _labelled(part: Part, labels: Sequence[str], name: str) -> Part:
    chosen = part.labelled(labels)
    if not chosen.records:
        raise SamplingError(
            f"the {name} part of the sources has {len(part.records)} images, and none of train.labels,"
            f" {', '.join(labels)}; add labels or a source, or change the shares or split_seed"
        )
    return chosen


def without_duplicates(sources: Collection) -> Part:
    """One image of every group of near-duplicates; none of a group whose labels contradict each other."""
    dropped: set[str] = set()
    for store in sources.stores:
        for group in _groups(store):
            _, *others = sorted(group, key=lambda record: record.id)
            conflicting = len({record.label for record in group}) > 1
            dropped |= {record.id for record in (group if conflicting else others)}
    kept = Part(sources, (record for record in sources.records if record.id not in dropped))
    logger.info("duplicates: %d of %d images are dropped", len(dropped), len(sources.records))
    return kept


def _groups(store: Store) -> list[list[Record]]:
    return [[store.records[place] for place in group] for group in duplicate_groups(store.images)]


def look_alikes_together(whole: Collection) -> list[Record]:
    """The records, patients that share look-alike images merged: BUSI shows many lesions several times, without ids."""
    of_patients: dict[str, Record] = {}
    for store in whole.stores:
        merged = group_patients(store.records, duplicate_groups(store.images, LOOK_ALIKE))
        of_patients |= {record.id: record for record in merged}
    return [of_patients[record.id] for record in whole.records]


def require_labels(network: nn.Module, partition: Partition) -> None:
    """Refuse to train or validate without images of what a supervised network tells apart.

    Raises:
        ConfigError: names the label, and the part that has none of it.
    """
    told_apart = [name for name in (*_names(network, "labels"), *_names(network, "classes")) if name in LABELS]
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


def _names(network: nn.Module, attribute: str) -> tuple[str, ...]:
    """What a network tells apart; one of a user's own need not say so."""
    names: tuple[str, ...] = getattr(network, attribute, ())
    return names
