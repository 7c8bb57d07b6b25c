"""Whether two runs drew the same supports and segmented the same queries, and where they part."""

import glob
import reprlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from episodes.errors import UserError
from episodes.files import read_text
from episodes.json_text import parse_json

# `support-draws` and `classic`.
KINDS = {"draws": "draw", "episodes": "episode"}
FIELDS = ("classes", "support", "queries", "query")
MOST_NAMED = 3


def require_same_manifests(first: Path, second: Path, target: str) -> None:
    """Check that two runs have the same manifest of a target, without needing its images.

    Args:
        first: a run's folder.
        second: another one.
        target: dataset.

    Raises:
        UserError: if they differ; it names the first difference. If a manifest is missing or damaged.
    """
    names = [_manifests(folder, target) for folder in (first, second)]
    for ours, theirs in zip_longest(*names, fillvalue="no such manifest"):
        if ours != theirs:
            raise UserError(f"{first} and {second} differ: {ours} and {theirs}; {_ADVICE}")
        _require_same(first / ours, second / ours)


_ADVICE = "only runs on the same draws can be paired, so give both the same data, seed and draws"


def _manifests(folder: Path, target: str) -> list[str]:
    """The names of a target's manifests: one of draws, or one of episodes for each run of the `classic` protocol."""
    found = [
        *folder.glob(f"draws-{glob.escape(target)}.jsonl"),
        *folder.glob(f"episodes-{glob.escape(target)}-run*.jsonl"),
    ]
    if not found:
        raise UserError(f"{folder / f'draws-{target}.jsonl'}: there is no such manifest, so the run cannot be paired")
    return sorted(path.name for path in found)


def _require_same(first: Path, second: Path) -> None:
    (ours, *our_entries), (theirs, *their_entries) = _read(first), _read(second)
    both = f"{first} and {second} differ"
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            raise UserError(f"{both}: {_header_difference(key, ours.get(key), theirs.get(key))}; {_ADVICE}")
    nothing: Mapping[str, Any] = {}
    for number, (our, their) in enumerate(zip_longest(our_entries, their_entries, fillvalue=nothing)):
        if our != their:
            entry = KINDS[first.name.partition("-")[0]]
            raise UserError(f"{both} in {entry} {number}: {_entry_difference(our, their)}; {_ADVICE}")


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        lines = [parse_json(line) for line in read_text(path, "manifest").removesuffix("\n").split("\n")]
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); run the benchmark again") from error
    objects: list[Mapping[str, Any]] = [line for line in lines if isinstance(line, dict)]
    if len(objects) < len(lines):
        raise UserError(f"{path}: damaged (a line is no JSON object); run the benchmark again")
    return objects


def _header_difference(key: str, ours: Any, theirs: Any) -> str:
    if key == "records":
        return f"they were drawn from other records ({ours} and {theirs})"
    return f"{key:.40} is {reprlib.repr(ours)} and {reprlib.repr(theirs)}"


def _entry_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Which field of an entry, and the record ids that only one of the two has there.

    >>> _entry_difference({"index": 2, "support": ["a", "b"]}, {"index": 2, "support": ["a", "c"]})
    'support has b in the first and c in the second'
    """
    key = next((key for key in FIELDS if ours.get(key) != theirs.get(key)), "index")
    our_ids, their_ids = _flat(ours.get(key)), _flat(theirs.get(key))
    only = [[one for one in ids if one not in others] for ids, others in ((our_ids, their_ids), (their_ids, our_ids))]
    if not any(only):
        only = [our_ids, their_ids]  # the same, in another order
    return f"{key} has {_some(only[0])} in the first and {_some(only[1])} in the second"


def _flat(value: Any) -> list[str]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [str(value)]


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return (", ".join(ids[:MOST_NAMED]) or "none of them") + more
