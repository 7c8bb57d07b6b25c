"""From a run's folder, or its results table alone, to everything that a report says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.errors import UserError
from episodes.records import LABELS
from episodes.scoring.bootstrap import FloatArray
from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import crossed_bootstrap
from fewshot.report.cautions import cautions_of
from fewshot.report.classic import classic_rows
from fewshot.report.content import Answer, ReportContent, Share, TargetContent, shown_rows
from fewshot.report.sentences import describe_answer, headline
from fewshot.results.comparison import Comparison, compare_all
from fewshot.results.identities import shared_run_files
from fewshot.results.index import ResultsIndex, cells_of, mean_of_known
from fewshot.results.rows import CALIBRATION, read_table, table_facts
from fewshot.results.run_files import RunFiles, results_file
from fewshot.results.summary import MethodResult, ResultsTable, dice_on, rank, summarise


def collect(path: Path) -> ReportContent:
    """Gather everything that a report of a run's folder, or of a results table by itself, says.

    Numbers come from the results table alone, so that they can be computed again from a copy of it; configuration,
    environment, costs and gallery are added where they are.

    Raises:
        UserError: if there is no results table, it is empty, or a file beside it is damaged.
    """
    file = results_file(path)
    name = path.resolve().name if path.is_dir() else path.stem
    table = read_table(file)
    if not len(table):
        raise UserError(f"{file}: has no rows; run the benchmark again")
    files = shared_run_files(path, name, table) if path.is_dir() else RunFiles()
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
        headline=headline([part.answers for part in parts]),
        targets=parts,
        facts=facts,
        config=files.config,
        environment=files.environment,
    )
    return replace(content, warnings=cautions_of(content, 0 if classic else _fewest_draws(index)))


def _target_content(
    index: ResultsIndex, all_rows: Sequence[MethodResult], target: str, files: RunFiles, *, classic: bool
) -> TargetContent:
    rows = [row for row in all_rows if row.target == target]
    lesions, normals = index.queries(target, lesion=True), index.queries(target, lesion=False)
    controls, shown = controls_of(index, rows, target), shown_rows(rows)
    found = answers(index, rows, controls)
    sizes, edges = by_size(index, shown)
    return TargetContent(
        target=target,
        n_lesion=len(lesions.ids),
        n_normal=len(normals.ids),
        n_patients=len({*lesions.patients, *normals.patients}),
        rows=rows,
        answers=found,
        comparisons=found[-1].others if found else [],
        controls=controls,
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
        int(np.count_nonzero(np.union1d(index.grid(key).draws, index.grid(key, lesion=False).draws) >= 0))
        for target in index.targets
        for key in index.keys(target)
        if key.shot > 0
    ]
    return min(counts, default=0)


def answers(index: ResultsIndex, rows: Sequence[MethodResult], controls: Sequence[Comparison] = ()) -> list[Answer]:
    """Find what to use on one target at each number of annotated images that was measured, rising.

    A number of images at which nothing could be scored has no answer. Rows and controls are those of the target.
    """
    found = (_answer(index, rows, shot, controls) for shot in sorted({row.shot for row in rows}))
    return [answer for answer in found if answer is not None]


def _answer(
    index: ResultsIndex, rows: Sequence[MethodResult], shot: int, controls: Sequence[Comparison]
) -> Answer | None:
    ranking = rank(index, rows, shot)
    if ranking.cells is None:
        return None
    best, cells = ranking.rows[0], ranking.cells
    others = [(row, best) for row in rows if row.shot <= shot and row.key != best.key]
    patients = np.array(index.queries(best.target, lesion=True).patients)[cells.queries]
    answer = Answer(
        shot,
        best,
        dice=dice_on(index, best, cells),
        n_lesion=len(patients),
        n_patients=len(set(patients.tolist())),
        ranked=[(row, cells.mean(index.grid(row.key))) for row in ranking.rows],
        others=compare_all(index, others, cells),
        left_out=ranking.left_out,
        controls=[one for one in controls if one.row.key == best.key],
    )
    return replace(answer, sentence=describe_answer(answer))


def controls_of(results: ResultsTable, rows: Sequence[MethodResult], target: str) -> list[Comparison]:
    """Compare every control of a target with the method that it is a control of, in the order of the rows."""
    methods = {(row.method, row.shot): row for row in rows if row.target == target}
    of_rows = ((methods.get((row.control_of or "", row.shot)), row) for row in methods.values() if row.control)
    return compare_all(results, [(method, row) for method, row in of_rows if method is not None])


SIZES = ("small", "medium", "large")
# With fewer, a third of the lesions would be one or two images.
FEWEST_LESIONS = 9


def by_size(index: ResultsIndex, rows: Sequence[MethodResult]) -> tuple[list[Share], tuple[float, ...]]:
    """Compute lesion Dice of small, medium and large lesions: thirds of the target's lesion images.

    Returns:
        The shares, row by row, and the two sizes between the thirds, as shares of the image; both empty where there
        are too few lesions, or they are alike, or their pixels were not counted.
    """
    if not rows:
        return [], ()
    sizes = index.queries(rows[0].target, lesion=True).lesion_shares
    if len(sizes) < FEWEST_LESIONS or np.isnan(sizes).any():
        return [], ()
    edges = np.quantile(sizes, [1 / 3, 2 / 3])
    # A lesion on an edge belongs to the smaller ones.
    groups = np.array(SIZES)[np.searchsorted(edges, sizes)]
    if len(set(groups)) < len(SIZES):
        return [], ()
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
    for row, values in _on_shared(index, rows):
        patients, scored = np.array(index.grid(row.key).queries.patients), ~np.isnan(values).all(axis=0)
        for name in names:
            chosen = scored & (groups == name)
            if chosen.any():
                dice = crossed_bootstrap(values[:, chosen], patients[chosen].tolist(), bounds=(0, 1))
                shares.append(Share(row, name, int(chosen.sum()), dice))
    return shares


def _on_shared(index: ResultsIndex, rows: Sequence[MethodResult]) -> Iterator[tuple[MethodResult, FloatArray]]:
    """Yield each row's lesion Dice (n_draws, n_queries) on the images that all of those have which can be used."""
    cells = rank(index, rows, max(row.shot for row in rows)).cells if rows else None
    for row in rows:
        grid = index.grid(row.key)
        yield row, (cells or cells_of(grid)).dice(grid)


def by_patient(index: ResultsIndex, rows: Sequence[MethodResult]) -> dict[tuple[str, int], FloatArray]:
    """Compute the mean lesion Dice of every patient whose lesion images all methods have, rising, by (method, shot)."""
    return {(row.method, row.shot): _patient_means(index, row, values) for row, values in _on_shared(index, rows)}


def _patient_means(index: ResultsIndex, row: MethodResult, values: FloatArray) -> FloatArray:
    means = mean_of_known(values, axis=0)
    scored = ~np.isnan(means)
    _, owners = np.unique(np.array(index.grid(row.key).queries.patients, dtype=str)[scored], return_inverse=True)
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
