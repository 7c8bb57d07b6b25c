"""The parts of a training that a split on disk gives."""

import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from episodes.crossings import Crossing, find_crossings
from episodes.errors import ManifestError
from episodes.files import read_text
from episodes.official_folds import LEFT_OUT
from episodes.records import Record
from episodes.splits import read_split

logger = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
"""What a training makes something of; images in the part `left-out` are in none of them."""

SHOWN = 3


def read_parts(path: Path, records: Sequence[Record], grouped: Sequence[Record]) -> dict[str, set[str]]:
    """The ids of each part of a split on disk, which keeps patients apart and so near-duplicates.

    Args:
        path: what `fewshot data split` wrote, or anything of that form.
        records: of the sources, as their stores have them.
        grouped: the same, patients merged where images look alike. Where such a group is on two sides there is a
            warning and no more: that two look alike is a guess.

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
    """Hash a split's file, by which a training knows that it goes on with the same one.

    Raises:
        ManifestError: if there is no such file.
    """
    return sha256(read_text(path, "split").encode()).hexdigest()[:16]


def describe_crossings(crossings: Sequence[Crossing], who: str, where: str) -> str:
    """How many are on two sides, and the first few.

    >>> describe_crossings([Crossing("d/p", {"1": ["d/a"], "2": ["d/b"]})], "patient", "fold")
    '1 patient is in more than one fold: d/p in 1 (d/a) and 2 (d/b)'
    """
    how_many = f"1 {who} is" if len(crossings) == 1 else f"{len(crossings)} {who}s are"
    more = f"; and {len(crossings) - SHOWN} more" if len(crossings) > SHOWN else ""
    return f"{how_many} in more than one {where}: {'; '.join(map(str, crossings[:SHOWN]))}{more}"
