"""Splits of configured datasets: read from a configuration, made, written and described."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from episodes.io.files import files_written_whole, require_free
from episodes.records import Record, records_hash
from episodes.sampling.splits import (
    FRACTIONS,
    Split,
    find_crossings,
    k_folds,
    look_alikes_together,
    official_folds,
    split_records,
    without_fold,
    write_split,
)
from episodes.storage.store import Collection
from fewshot.config.data import DataConfig, SampleConfig
from fewshot.config.parsing import load_config, parse_config
from fewshot.config.training import TrainConfig
from fewshot.data.description import count_labels
from fewshot.training.partition import describe_crossings

logger = logging.getLogger(__name__)

SHOWN = 5


class _AnyKeys(BaseModel):
    """A configuration of whatever kind."""

    model_config = ConfigDict(extra="allow")


def load_data_config(path: Path, overrides: Sequence[str] = ()) -> tuple[DataConfig, tuple[str, ...]]:
    """Read which datasets are to be split from a configuration of data, of episodes or of a training.

    Which of these it is shows in its keys, `episodes` or `train`; each is read as strictly as its own command does. The
    names of the datasets come with it: of a training, its sources.

    Raises:
        ConfigError: if it is wrong.
    """
    tree = load_config(path, _AnyKeys, overrides).model_extra or {}
    kind: type[DataConfig] = DataConfig
    if "episodes" in tree:
        kind = SampleConfig
    if "train" in tree:
        kind = TrainConfig
    config = parse_config(tree, kind, str(path))
    return config, config.sources if isinstance(config, TrainConfig) else tuple(config.datasets)


def make_splits(
    collection: Collection,
    fractions: Mapping[str, float] = FRACTIONS,
    *,
    folds: int | None = None,
    official: int | None = None,
    seed: int = 0,
) -> dict[str, Split]:
    """Split so that no patient, no near-duplicate and no look-alike is on two sides, each label spread evenly.

    One split has parts of these shares of the images, unless a number of `folds` to draw, or of the dataset's own,
    `official` ones, is asked for. Official folds are as they are: what crosses them is warned of.

    Returns:
        What to add to a file's name -> split: nothing to that of a single one, `fold0`, ... to those of folds. Each is
        a split of the stores' records, by whose hash it is known again.

    Raises:
        SamplingError: if there are too few patients, or no such official folds.
    """
    if official is not None:
        own = official_folds(collection.records, official)
        _report_official(own, collection)
        return {f"fold{name}": split for name, split in own.items()}
    grouped = look_alikes_together(collection)
    if folds is None:
        drawn = {"": split_records(grouped, fractions, seed)}
    else:
        drawn = {f"fold{number}": split for number, split in enumerate(k_folds(grouped, folds, seed))}
    of_stores = records_hash(collection.records)
    return {name: replace(split, records=of_stores) for name, split in drawn.items()}


def write_splits(path: Path, splits: Mapping[str, Split], *, overwrite: bool = False) -> dict[Path, Split]:
    """Write each of `make_splits` to a file of its own, so that each can be a training's `split` as it is.

    Files of folds are called after the path, such as `mine-fold0.json` after `mine.json`.

    Returns:
        The files, with what is in them.

    Raises:
        UserError: if one exists and is not to be replaced; then none is written.
        StorageError: if one cannot be written; then none is.
    """
    files = {
        path.with_name(f"{path.stem}-{name}{path.suffix}") if name else path: split for name, split in splits.items()
    }
    require_free(*files, overwrite=overwrite)
    with files_written_whole(*files) as partials:
        for partial, split in zip(partials, files.values(), strict=True):
            write_split(partial, split)
    return files


def describe_split(split: Split, records: Sequence[Record]) -> Iterator[str]:
    """Describe each part in a line, the usual ones first: how many images of whom, and of which classes."""
    parts = set(split.parts.values())
    for part in (*(usual for usual in FRACTIONS if usual in parts), *sorted(parts - FRACTIONS.keys())):
        chosen = split.select(records, part)
        patients = len({record.patient_id for record in chosen})
        of_whom = "1 patient" if patients == 1 else f"{patients} patients"
        yield f"{part}: {len(chosen)} images of {of_whom} ({count_labels(chosen)})"


def _report_official(folds: Mapping[str, Split], collection: Collection) -> None:
    """Say who is in several of a dataset's own folds, and who in none: nothing is put right in silence."""
    fold_of = {
        record_id: name for name, split in folds.items() for record_id, part in split.parts.items() if part == "test"
    }
    if lost := without_fold(next(iter(folds.values()))):
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        logger.warning("%d images are in no official fold: %s%s", len(lost), ", ".join(lost[:SHOWN]), more)
    if patients := find_crossings(collection.records, fold_of):
        found = describe_crossings(patients, "patient", "fold")
        logger.warning("official folds: %s; a training refuses such a split", found)
    elif look_alikes := find_crossings(look_alikes_together(collection), fold_of):
        logger.warning("official folds: %s", describe_crossings(look_alikes, "look-alike group", "fold"))
    else:
        logger.info("official folds: no patient, near-duplicate or look-alike is in two of them")
