"""From a run's folder, or its results table alone, to everything that a report says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.errors import UserError
from episodes.records import LABELS
from episodes.scoring.bootstrap import FloatArray
from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import crossed_bootstrap
from fewshot.report.classic import classic_rows
from fewshot.report.content import Answer, Control, ReportContent, Share, TargetContent, shown_rows
from fewshot.report.sentences import describe_answer, describe_control, headline, warnings_of
from fewshot.results.index import ResultsIndex
from fewshot.results.rows import CALIBRATION, read_table, table_facts
from fewshot.results.run_files import RunFiles, read_run_files, results_file
from fewshot.results.summary import MethodResult, ResultsTable, candidates, compare, compare_all, indexed, summarise


def collect(path: Path) -> ReportContent:
    """Gather everything that a report of a run's folder, or of a results table by itself, says.

    Numbers come from the results table alone, so that they can be computed again from a copy of it; configuration,
    environment, costs and gallery are added where they are.

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


def content_of(index: ResultsIndex, title: str, files: RunFiles) -> ReportContent:
    """Gather everything that a report says of results, at least one row, and of the files that lie beside them."""
    facts = table_facts(index.table)
    listed = facts.get("targets", [])
    targets = sorted(
        index.targets, key=lambda target: (listed.index(target) if target in listed else len(listed), target)
    )
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


def _target_content(
    index: ResultsIndex, all_rows: Sequence[MethodResult], target: str, files: RunFiles, *, classic: bool
) -> TargetContent:
    rows = [row for row in all_rows if row.target == target]
    lesions, normals = index.queries(target, lesion=True), index.queries(target, lesion=False)
    found, shown = answers(index, rows), shown_rows(rows)
    best = found[-1].best if found else None
    sizes, edges = by_size(index, shown)
    return TargetContent(
        target=target,
        n_lesion=len(lesions.ids),
        n_normal=len(normals.ids),
        n_patients=len({*lesions.patients, *normals.patients}),
        rows=rows,
        answers=found,
        comparisons=compare_all(index, [(row, best) for row in rows if row.key != best.key]) if best else [],
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


def _fewest_draws(index: ResultsIndex) -> int:
    """Count the fewest support draws of any row that has some; 0 without any."""
    counts = [
        int(np.count_nonzero(index.grid(key).draws >= 0))
        for target in index.targets
        for key in index.keys(target)
        if key.shot > 0
    ]
    return min(counts, default=0)


def answers(index: ResultsIndex, rows: Sequence[MethodResult]) -> list[Answer]:
    """Find what to use on one target at each number of annotated images that was measured, rising.

    A number of images at which nothing could be scored has no answer. The rows are those of the target.
    """
    shots = sorted({row.shot for row in rows})
    return [_answer(index, usable, shot) for shot in shots if (usable := candidates(rows, shot))]


def _answer(index: ResultsIndex, usable: Sequence[MethodResult], shot: int) -> Answer:
    best = usable[0]
    rival = _rival(usable, shot)
    without = next((row for row in usable if row.shot == 0), None) if best.shot else None
    lead = None if rival is None else compare(index, best, rival)
    gain = None if without is None else compare(index, best, without)
    answer = Answer(shot, best, rival, lead, without, gain)
    return replace(answer, sentence=describe_answer(answer))


def _rival(usable: Sequence[MethodResult], shot: int) -> MethodResult | None:
    """Find the best row of another method than the first one's.

    With annotated images at hand it is one that uses them, since what does without them is a question of its own: is
    annotating worth it? Where the answer to that is no, it is the best of those that use them, of whatever method.
    """
    best = usable[0]
    for row in usable[1:]:
        if (row.shot > 0) == (shot > 0) and (row.method != best.method or row.shot > best.shot == 0):
            return row
    return None


def controls_of(results: ResultsTable, rows: Sequence[MethodResult], target: str) -> list[Control]:
    """Compare every control of a target with the method that it is a control of, in the order of the rows."""
    index = indexed(results)
    methods = {(row.method, row.shot): row for row in rows if row.target == target}
    found = []
    for row in methods.values():
        method = methods.get((row.control_of or "", row.shot))
        if row.control and method is not None:
            difference = compare(index, method, row)
            control = Control(target, row.shot, method.method, row.method, row.control, difference)
            found.append(replace(control, sentence=describe_control(control)))
    return found


SIZES = ("small", "medium", "large")
# With fewer, a third of the lesions would be one or two images.
FEWEST_LESIONS = 9


def by_size(index: ResultsIndex, rows: Sequence[MethodResult]) -> tuple[list[Share], tuple[float, ...]]:
    """Compute lesion Dice of small, medium and large lesions: thirds of the target's lesion images.

    Returns:
        The shares, row by row, and the two sizes between the thirds, as shares of the image; both empty where there
        are too few lesions, or their pixels were not counted.
    """
    if not rows:
        return [], ()
    sizes = index.queries(rows[0].target, lesion=True).lesion_shares
    if len(sizes) < FEWEST_LESIONS or np.isnan(sizes).any():
        return [], ()
    edges = np.quantile(sizes, [1 / 3, 2 / 3])
    # A lesion on an edge belongs to the smaller ones.
    groups = np.array(SIZES)[np.searchsorted(edges, sizes)]
    return _shares(index, rows, groups, SIZES), (float(edges[0]), float(edges[1]))


def by_label(index: ResultsIndex, rows: Sequence[MethodResult]) -> list[Share]:
    """Compute lesion Dice of benign, malignant and unknown lesions, row by row, as far as there are any."""
    if not rows:
        return []
    labels = np.array(index.queries(rows[0].target, lesion=True).labels)
    return _shares(index, rows, labels, LABELS)


def _shares(
    index: ResultsIndex, rows: Sequence[MethodResult], groups: NDArray[np.str_], names: Sequence[str]
) -> list[Share]:
    shares = []
    for row in rows:
        grid = index.grid(row.key)
        values, patients = grid.over_seeds("dice"), np.array(grid.queries.patients)
        scored = ~np.isnan(values).all(axis=0)
        for name in names:
            chosen = scored & (groups == name)
            if chosen.any():
                dice = crossed_bootstrap(values[:, chosen], patients[chosen], bounds=(0, 1))
                shares.append(Share(row, name, int(chosen.sum()), dice))
    return shares


def by_patient(index: ResultsIndex, rows: Sequence[MethodResult]) -> dict[tuple[str, int], FloatArray]:
    """Compute the mean lesion Dice of every patient that a row has lesion images of, rising, by (method, shot)."""
    return {(row.method, row.shot): _patient_means(index, row) for row in rows}


def _patient_means(index: ResultsIndex, row: MethodResult) -> FloatArray:
    grid = index.grid(row.key)
    means = grid.query_means("dice")
    scored = ~np.isnan(means)
    _, owners = np.unique(np.array(grid.queries.patients, dtype=str)[scored], return_inverse=True)
    return np.sort(np.bincount(owners, means[scored]) / np.bincount(owners))


def reliability(index: ResultsIndex, rows: Sequence[MethodResult]) -> Mapping[tuple[str, int], Reliability]:
    """Compute how often what was called so probable is lesion, by (method, shot), over all pixels of all queries.

    Lesion and normal images count, and those that several draws have count in each. Rows that give no probabilities
    are left out.
    """
    found = {(row.method, row.shot): _reliability(index, row) for row in rows}
    return {key: value for key, value in found.items() if value is not None}


def _reliability(index: ResultsIndex, row: MethodResult) -> Reliability | None:
    part = index.part(row.key, CALIBRATION)
    columns = [part[name].combine_chunks() for name in CALIBRATION]
    if any(len(column) == column.null_count for column in columns):
        return None
    counts, confidences, positives = (
        column.flatten().to_numpy().reshape(-1, column.type.list_size).sum(axis=0, dtype=np.float64)
        for column in columns
    )
    return Reliability.of_bins(counts, confidences, positives)
