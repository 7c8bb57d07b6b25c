"""Two runs side by side, paired query by query: only where both segmented the same queries from the same supports."""

import glob
import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from episodes.errors import UserError
from episodes.io.files import read_text
from episodes.io.yaml_json import parse_json
from fewshot.report.collect import content_of
from fewshot.report.content import ReportContent
from fewshot.results.comparison import Comparison, compare_all
from fewshot.results.identities import shared_run_files
from fewshot.results.index import ResultKey, ResultsIndex
from fewshot.results.rows import FACTS, read_table, table_facts
from fewshot.results.run_files import RESULTS, RunFiles
from fewshot.results.summary import MethodResult

# `support-draws` and `classic`.
KINDS = {"draws": "draw", "episodes": "episode"}
FIELDS = ("classes", "support", "queries", "query")
MOST_NAMED = 3


def require_same_manifests(first: Path, second: Path, target: str) -> None:
    """Check that two runs' folders have the same manifest of a target, without needing its images.

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
    """Return a target's manifests: one of draws, or one of episodes for each run of the `classic` protocol."""
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
    """Name the field of an entry that differs, and the record ids that only one of the two has there.

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


SEPARATOR = ": "
# In these, runs that are compared may differ.
FREE_FACTS = ("benchmark", "shots", "targets")


def pair_runs(first: Path, second: Path) -> ReportContent:
    """Compare two runs' folders on the same manifest, as a report whose `pairs` has the differences.

    Their rows stand in one table, each method named `RUN: method`, and every row that both runs have gets the paired
    difference of the two, second minus first.

    Raises:
        UserError: if the runs have other targets, another protocol or other draws, and in what they differ; or if a
            file is missing or damaged.
    """
    names = run_names(first, second)
    tables = [read_table(folder / RESULTS) for folder in (first, second)]
    _require_same_question(names, tables)
    for target in _targets(tables[0]):
        require_same_manifests(first, second, target)
    files = [
        shared_run_files(folder, name, table)
        for folder, name, table in zip((first, second), names, tables, strict=True)
    ]
    facts, differing = _common_facts(*map(table_facts, tables))
    merged = pa.concat_tables(_renamed(table, name) for table, name in zip(tables, names, strict=True))
    index = ResultsIndex(merged.replace_schema_metadata({FACTS: json.dumps(facts).encode()}))
    content = content_of(index, " and ".join(names), _merged_files(files, names))
    warnings = [*_warnings(differing, names), *content.warnings]
    rows = {row.key: row for row in content.rows}
    return replace(content, warnings=warnings, pairs=_pairs(index, rows, names))


def run_names(first: Path, second: Path) -> tuple[str, str]:
    """Return the folders' names; with their parents' where they are the same.

    Raises:
        UserError: if it is the same folder twice.

    >>> run_names(Path("/runs/short"), Path("/runs/long"))
    ('short', 'long')
    >>> run_names(Path("/mine/phantom"), Path("/yours/phantom"))
    ('mine/phantom', 'yours/phantom')
    """
    paths = first.resolve(), second.resolve()
    if paths[0] == paths[1]:
        raise UserError(f"{first}: the same run twice; name another one to compare it with")
    depth = next(depth for depth in range(1, 99) if paths[0].parts[-depth:] != paths[1].parts[-depth:])
    ours, theirs = ("/".join(path.parts[-depth:]) for path in paths)
    return ours, theirs


def _targets(table: pa.Table) -> list[str]:
    return sorted(pc.unique(table["target"]).to_pylist())


def _require_same_question(names: Sequence[str], tables: Sequence[pa.Table]) -> None:
    targets = [", ".join(_targets(table)) for table in tables]
    protocols = [table_facts(table).get("protocol") for table in tables]
    for kind, (ours, theirs) in (("targets", targets), ("protocols", protocols)):
        if ours != theirs:
            raise UserError(
                f"{names[0]} and {names[1]} cannot be paired: their {kind} differ, {ours or 'none'} and"
                f" {theirs or 'none'}; report each by itself"
            )


def _common_facts(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Part what holds for both tables from what does not."""
    keys = sorted({*ours, *theirs})
    values = {key: [ours.get(key), theirs.get(key)] for key in keys}
    same = {key: both[0] for key, both in values.items() if both[0] == both[1]}
    return same, {key: both for key, both in values.items() if key not in same}


def _renamed(table: pa.Table, run: str) -> pa.Table:
    """Return the table with the run in front of every method's name."""
    for column in ("method", "control_of"):
        names = pc.binary_join_element_wise(f"{run}{SEPARATOR}", table[column], "")
        table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), names)
    return table.replace_schema_metadata(None)


def _merged_files(files: Sequence[RunFiles], names: Sequence[str]) -> RunFiles:
    pairs = list(zip(files, names, strict=True))
    return RunFiles(
        config={name: text for one in files for name, text in one.config.items()},
        environment={name: facts for one in files for name, facts in one.environment.items()},
        costs=[replace(cost, method=f"{run}{SEPARATOR}{cost.method}") for one, run in pairs for cost in one.costs],
        cases=[replace(case, method=f"{run}{SEPARATOR}{case.method}") for one, run in pairs for case in one.cases],
    )


def _warnings(differing: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[str]:
    both = f"{names[0]} and {names[1]}"
    warnings = []
    for key, (ours, theirs) in differing.items():
        if key in FREE_FACTS:
            continue
        if key == "image_size":
            warnings.append(
                f"{both} work at different sizes, {ours} and {theirs} pixels: distances in pixels (HD95, NSD) cannot be"
                " compared between them."
            )
        else:
            warnings.append(f"{both} differ in {key.replace('_', ' ')}: {_shown(ours)} and {_shown(theirs)}.")
    return warnings


def _shown(fact: Any) -> str:
    """Put a fact in words: what a list holds, and `none` for null."""
    return ", ".join(map(str, fact)) if isinstance(fact, list) else "none" if fact is None else str(fact)


def _pairs(
    index: ResultsIndex, rows: Mapping[ResultKey, MethodResult], names: Sequence[str]
) -> dict[ResultKey, Comparison]:
    first, second = (f"{name}{SEPARATOR}" for name in names)
    found: dict[ResultKey, tuple[MethodResult, MethodResult]] = {}
    for key, row in rows.items():
        method = key.method.removeprefix(first)
        other = rows.get(ResultKey(key.target, f"{second}{method}", key.shot))
        if key.method.startswith(first) and other is not None:
            found[ResultKey(key.target, method, key.shot)] = other, row
    return dict(zip(found, compare_all(index, list(found.values())), strict=True))
