"""From a run's folder, or its results table alone, to everything that a report says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import UserError, in_short
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.scoring.statistics import holm
from fewshot.report.breakdowns import by_label, by_patient, by_size, reliability, shown_rows
from fewshot.report.classic import classic_rows
from fewshot.report.content import Answer, Comparison, ReportContent, TargetContent
from fewshot.report.sentences import answers, controls_of, headline, warnings_of
from fewshot.results.costs import Cost, read_costs
from fewshot.results.gallery import GalleryCase, read_gallery
from fewshot.results.index import ResultsIndex
from fewshot.results.rows import read_table, table_facts
from fewshot.results.summary import Row, compare, summarise

RESULTS = "results.parquet"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What lies beside the results; a table by itself has none of it.

    Attributes:
        config: the resolved configuration as YAML, by run.
        environment: versions and device, by run.
        costs: what rows cost.
        cases: to look at.
    """

    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: Sequence[Cost] = ()
    cases: Sequence[GalleryCase] = ()


def collect(path: Path) -> ReportContent:
    """Everything that a report of one run says.

    Numbers come from the results table alone, so that they can be computed again from a copy of it; configuration,
    environment, costs and gallery are added where they are.

    Args:
        path: a run's folder, or a results table.

    Raises:
        UserError: if there is no results table, it is empty, or a file beside it is damaged.
    """
    file = results_file(path)
    name = path.resolve().name if path.is_dir() else path.stem
    files = read_run_files(path, name) if path.is_dir() else RunFiles()
    table = read_table(file)
    if not len(table):
        raise UserError(f"{file}: has no rows; run the benchmark again")
    return content_of(ResultsIndex(table), name, files)


def results_file(path: Path) -> Path:
    """The results table of a run's folder, or the table that the path is itself."""
    return path / RESULTS if path.is_dir() else path


def read_run_files(folder: Path, name: str) -> RunFiles:
    """What a run's folder holds beside the results.

    Args:
        folder: of the run.
        name: to show it by.

    Raises:
        UserError: if a file is damaged.
    """
    try:
        config = _text(folder / "config.yaml")
        return RunFiles(
            config={} if config is None else {name: config},
            environment=_environment(folder / "environment.json", name),
            costs=read_costs(folder),
            cases=read_gallery(folder),
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: a file of the run cannot be read ({in_short(error)}); run the benchmark again"
        ) from error


def _environment(path: Path, name: str) -> dict[str, Mapping[str, Any]]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise JSONTextError("environment.json is not an object")
    return {name: found}


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def content_of(index: ResultsIndex, title: str, files: RunFiles) -> ReportContent:
    """Everything that a report of a results table says.

    Args:
        index: its rows, at least one.
        title: of the report.
        files: what lies beside it.
    """
    facts = table_facts(index.table)
    targets = _in_order(index.targets, facts.get("targets", []))
    rows = summarise(index, targets)
    classic = facts.get("protocol") == "classic"
    parts = [_target_content(index, rows, target, files, classic=classic) for target in targets]
    content = ReportContent(
        title=title,
        headline=headline([part.answers for part in parts], rows),
        targets=parts,
        facts=facts,
        config=files.config,
        environment=files.environment,
    )
    return replace(content, warnings=warnings_of(content, 0 if classic else _fewest_draws(index)))


def _in_order(targets: Sequence[str], listed: Sequence[str]) -> list[str]:
    """The targets as they are listed, then others by name."""
    return sorted(targets, key=lambda target: (listed.index(target) if target in listed else len(listed), target))


def _target_content(
    index: ResultsIndex, all_rows: Sequence[Row], target: str, files: RunFiles, *, classic: bool
) -> TargetContent:
    rows = [row for row in all_rows if row.target == target]
    lesions, normals = index.queries(target, lesion=True), index.queries(target, lesion=False)
    found, shown = answers(index, rows), shown_rows(rows)
    sizes, edges = by_size(index, shown)
    return TargetContent(
        target=target,
        n_lesion=len(lesions.ids),
        n_normal=len(normals.ids),
        n_patients=len({*lesions.patients, *normals.patients}),
        rows=rows,
        answers=found,
        comparisons=_comparisons(index, rows, found[-1]) if found else [],
        controls=controls_of(index, rows, target),
        patients=by_patient(index, rows),
        sizes=sizes,
        size_edges=edges,
        labels=by_label(index, shown),
        reliability=reliability(index, rows),
        costs=[cost for cost in files.costs if cost.target == target],
        cases=[case for case in files.cases if case.target == target],
        classic=classic_rows(index, target) if classic else [],
    )


def _comparisons(index: ResultsIndex, rows: Sequence[Row], answer: Answer) -> list[Comparison]:
    others = [row for row in rows if row.key != answer.best.key]
    differences = [compare(index, row, answer.best) for row in others]
    corrected = holm([difference.p_value for difference in differences])
    return [Comparison(*found) for found in zip(others, differences, corrected, strict=True)]


def _fewest_draws(index: ResultsIndex) -> int:
    """The fewest support draws of any row that has some; 0 without any."""
    counts = [
        int(np.count_nonzero(index.grid(key).draws >= 0))
        for target in index.targets
        for key in index.keys(target)
        if key.shot > 0
    ]
    return min(counts, default=0)
