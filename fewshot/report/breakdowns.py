"""What stands behind a mean: lesions by size and label, patients one by one, and how true probabilities are."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from episodes.records import LABELS
from episodes.scoring.bootstrap import FloatArray
from episodes.scoring.curves import Reliability
from episodes.scoring.statistics import crossed_bootstrap
from fewshot.report.content import Share
from fewshot.results.index import ResultsIndex
from fewshot.results.rows import CALIBRATION
from fewshot.results.summary import Row

SIZES = ("small", "medium", "large")
MOST_ROWS = 6
# With fewer, a third of the lesions would be one or two images.
FEWEST_LESIONS = 9


def shown_rows(rows: Sequence[Row], most: int = MOST_ROWS) -> list[Row]:
    """The rows of a target that are broken down; all of them would be more than anyone reads.

    They are methods, no floor, control or oracle: the best of every number of shots, then the second best of every
    number of shots, and so on until there are `most`, those with more shots first. They come in the order of `rows`.
    """
    ranks: Counter[int] = Counter()
    ranked = []
    for row in rows:  # best first within each number of shots
        if row.role == "method":
            ranked.append((ranks[row.shot], -row.shot, row))
            ranks[row.shot] += 1
    chosen = {row.key for *_, row in sorted(ranked, key=lambda entry: entry[:2])[:most]}
    return [row for row in rows if row.key in chosen]


def by_size(index: ResultsIndex, rows: Sequence[Row]) -> tuple[list[Share], tuple[float, ...]]:
    """Lesion Dice of small, medium and large lesions: thirds of the target's lesion images.

    Args:
        index: per-query results.
        rows: of one target, those to show.

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


def by_label(index: ResultsIndex, rows: Sequence[Row]) -> list[Share]:
    """Lesion Dice of benign, malignant and unknown lesions, row by row; a label that no lesion has is left out."""
    if not rows:
        return []
    labels = np.array(index.queries(rows[0].target, lesion=True).labels)
    return _shares(index, rows, labels, LABELS)


def _shares(index: ResultsIndex, rows: Sequence[Row], groups: NDArray[np.str_], names: Sequence[str]) -> list[Share]:
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


def by_patient(index: ResultsIndex, rows: Sequence[Row]) -> dict[tuple[str, int], FloatArray]:
    """Mean lesion Dice of every patient that a row has lesion images of, rising, by (method, shot)."""
    return {(row.method, row.shot): _patient_means(index, row) for row in rows}


def _patient_means(index: ResultsIndex, row: Row) -> FloatArray:
    grid = index.grid(row.key)
    means = grid.query_means("dice")
    scored = ~np.isnan(means)
    _, owners = np.unique(np.array(grid.queries.patients, dtype=str)[scored], return_inverse=True)
    return np.sort(np.bincount(owners, means[scored]) / np.bincount(owners))


def reliability(index: ResultsIndex, rows: Sequence[Row]) -> Mapping[tuple[str, int], Reliability]:
    """How often what was called so probable is lesion, by (method, shot), over all pixels of all queries.

    Lesion and normal images count, and those that several draws have count in each. Rows that give no probabilities
    are left out.
    """
    found = {(row.method, row.shot): _reliability(index, row) for row in rows}
    return {key: value for key, value in found.items() if value is not None}


def _reliability(index: ResultsIndex, row: Row) -> Reliability | None:
    part = index.part(row.key, CALIBRATION)
    columns = [part[name].combine_chunks() for name in CALIBRATION]
    if any(len(column) == column.null_count for column in columns):
        return None
    counts, confidences, positives = (
        column.flatten().to_numpy().reshape(-1, column.type.list_size).sum(axis=0, dtype=np.float64)
        for column in columns
    )
    return Reliability.of_bins(counts, confidences, positives)
