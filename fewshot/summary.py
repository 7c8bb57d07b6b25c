"""From the per-query results to the table and the answer in one sentence."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from episodes.files import write_text
from episodes.statistics import Difference, Interval, crossed_bootstrap, paired_difference

# Columns of a summary beside the Dice, averaged like it over lesion images.
LESION_SCORES = ("iou", "precision", "recall", "hd95", "nsd", "detected")
NORMAL_SCORES = ("false_positive", "false_positive_area")


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one number of shots on one target.

    Attributes:
        target: dataset.
        method: name in the configuration.
        shot: support images; 0 for none.
        dice: lesion Dice, mean over lesion images with its 95 % interval over patients and draws.
        seed_spread: standard deviation of the mean Dice over training seeds; NaN for a single seed.
        scores: the other means; of normal images those in `NORMAL_SCORES`.
        n_lesion: lesion images scored.
        n_normal: normal images scored.
        control: what was done to the support sets' masks; None where the row is no control.
        control_of: the method that it is a control of; None without one.
    """

    target: str
    method: str
    shot: int
    dice: Interval
    seed_spread: float
    scores: dict[str, float]
    n_lesion: int
    n_normal: int
    control: str | None = None
    control_of: str | None = None


@dataclass(frozen=True, slots=True)
class Controlled:
    """What a method's lesion Dice owes to the masks of its support sets.

    Attributes:
        target: dataset.
        shot: support images.
        method: the method.
        control: its control.
        masks: what the control does to them, `emptied` or `swapped`.
        difference: of lesion Dice, method minus control, paired on query and draw.
    """

    target: str
    shot: int
    method: str
    control: str
    masks: str
    difference: Difference


def summarise(table: pa.Table, targets: Sequence[str]) -> list[Row]:
    """The rows of the table, best Dice first within each number of shots.

    Args:
        table: per-query results.
        targets: in the order to show them.
    """
    rows = [
        _summarise_row(part, target, method, shot)
        for target in targets
        for method, shot, part in _by_row(table.filter(pc.equal(table["target"], target)))
    ]
    return sorted(rows, key=lambda row: (targets.index(row.target), row.shot, -row.dice.estimate))


def _by_row(table: pa.Table) -> Iterator[tuple[str, int, pa.Table]]:
    pairs = table.select(["method", "shot"]).group_by(["method", "shot"]).aggregate([]).to_pylist()
    for pair in pairs:
        chosen = pc.and_(pc.equal(table["method"], pair["method"]), pc.equal(table["shot"], pair["shot"]))
        yield pair["method"], pair["shot"], table.filter(chosen)


def _summarise_row(table: pa.Table, target: str, method: str, shot: int) -> Row:
    lesions, normals = table.filter(table["lesion"]), table.filter(pc.invert(table["lesion"]))
    grid = _grid(lesions, "dice")
    seeds = sorted(set(lesions["seed"].to_pylist()))
    means = [
        float(_query_means(_grid(lesions.filter(pc.equal(lesions["seed"], seed)), "dice").values).mean())
        for seed in seeds
    ]
    scores = {name: _mean(lesions, name) for name in LESION_SCORES}
    scores |= {name: _mean(normals, name) for name in NORMAL_SCORES}
    return Row(
        target=target,
        method=method,
        shot=shot,
        dice=crossed_bootstrap(grid.values, grid.patients),
        seed_spread=float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        scores=scores,
        n_lesion=len(grid.queries),
        n_normal=len(set(normals["query"].to_pylist())),
        control=table["control"][0].as_py(),
        control_of=table["control_of"][0].as_py(),
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """One score as draws x queries, averaged over training seeds; NaN where a query is not in a draw."""

    values: NDArray[np.float64]
    queries: tuple[str, ...]
    patients: tuple[str, ...]


def _grid(table: pa.Table, score: str) -> _Grid:
    columns = [table[name].to_pylist() for name in ("draw", "query", "patient", score)]
    draws = {draw: row for row, draw in enumerate(sorted(set(columns[0])))}
    patients = dict(sorted(zip(columns[1], columns[2], strict=True)))
    places = {query: column for column, query in enumerate(patients)}
    total, count = np.zeros((2, len(draws), len(places)))
    for draw, query, _, value in zip(*columns, strict=True):
        total[draws[draw], places[query]] += value
        count[draws[draw], places[query]] += 1
    values = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return _Grid(values, tuple(patients), tuple(patients.values()))


def _query_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.nanmean(values, axis=0)
    return means


def _mean(table: pa.Table, score: str) -> float:
    """Mean over queries of each query's mean over draws and seeds; NaN where there is nothing to score."""
    if len(table) == 0:
        return math.nan
    return float(_query_means(_grid(table, score).values).mean())


def answer(table: pa.Table, rows: Sequence[Row], target: str) -> str:
    """What to use, in one sentence made from the numbers; controls are not for use."""
    own = [row for row in rows if row.target == target and row.control is None]
    shots = max(row.shot for row in own)
    best = next(row for row in own if row.shot == shots)
    sentence = f"On {target}, with {_images(shots)}, {best.method!r} is best: lesion Dice {show(best.dice)}"
    rival = next((row for row in own if row.shot == 0), None)
    if shots == 0 or rival is None:
        return sentence + "."
    gain = compare(table, best, rival)
    low, high = gain.interval.low, gain.interval.high
    verdict = "more than" if low > 0 else "less than" if high < 0 else "not clearly different from"
    return (
        f"{sentence}. That is {verdict} {rival.method!r} with no annotated image at all, {show(rival.dice)}:"
        f" the difference is {show(gain.interval, sign=True)}, p = {gain.p_value:.3f}."
    )


def _images(shots: int) -> str:
    return "no annotated image" if shots == 0 else "1 annotated image" if shots == 1 else f"{shots} annotated images"


def compare_controls(table: pa.Table, rows: Sequence[Row], target: str) -> list[Controlled]:
    """Every control of a target beside the method that it is a control of, in the order of the rows."""
    methods = {(row.method, row.shot): row for row in rows if row.target == target}
    pairs = [(row, methods.get((row.control_of or "", row.shot))) for row in methods.values() if row.control]
    return [
        Controlled(target, row.shot, method.method, row.method, row.control or "", compare(table, method, row))
        for row, method in pairs
        if method is not None
    ]


def judge_control(controlled: Controlled) -> str:
    """Whether a method uses its support set, in one sentence made from the numbers.

    >>> loss = Difference(Interval(0.12, 0.08, 0.16), 0.001)
    >>> judge_control(Controlled("ours", 5, "PANet", "PANet swapped", "swapped", loss))
    "'PANet' falls by 0.120 [0.080, 0.160] with 5 annotated images when its supports' masks are swapped."
    """
    loss = controlled.difference.interval
    case = f"with {_images(controlled.shot)} when its supports' masks are {controlled.masks}"
    if math.isnan(loss.low):
        return f"Whether {controlled.method!r} uses its support set cannot be told from one patient and one draw."
    if loss.low > 0:
        return f"{controlled.method!r} falls by {show(loss)} {case}."
    return f"{controlled.method!r} does not use its support set: the loss is {show(loss, sign=True)} {case}."


def compare(table: pa.Table, first: Row, second: Row) -> Difference:
    """The difference of two rows' lesion Dice, first minus second, paired on query and draw."""
    a, b = (_grid(_lesions_of(table, row), "dice") for row in (first, second))
    common = [query for query in a.queries if query in set(b.queries)]
    left, right = (grid.values[:, [grid.queries.index(query) for query in common]] for grid in (a, b))
    left, right = np.broadcast_arrays(left, right)  # a row without draws has the same masks in every draw
    patients = dict(zip(a.queries, a.patients, strict=True))
    return paired_difference(left, right, [patients[query] for query in common])


def _lesions_of(table: pa.Table, row: Row) -> pa.Table:
    chosen = pc.and_(pc.equal(table["target"], row.target), pc.equal(table["method"], row.method))
    chosen = pc.and_(chosen, pc.equal(table["shot"], row.shot))
    return table.filter(pc.and_(chosen, table["lesion"]))


def write_summary(folder: Path, table: pa.Table, rows: Sequence[Row], targets: Sequence[str]) -> Path:
    """Write `summary.json`: the answers, the rows, and what the controls say, NaN as null.

    Returns:
        The file written.
    """
    content = {
        "answers": {target: answer(table, rows, target) for target in targets},
        "rows": [without_nan(asdict(row)) for row in rows],
        "controls": [
            without_nan(asdict(controlled))
            for target in targets
            for controlled in compare_controls(table, rows, target)
        ],
    }
    path = folder / "summary.json"
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def without_nan(value: Any) -> Any:
    """The same tree of dictionaries and lists with null where a number is NaN: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def show(interval: Interval, *, sign: bool = False) -> str:
    """An interval as people write it.

    >>> show(Interval(0.7123, 0.66, 0.751))
    '0.712 [0.660, 0.751]'
    """
    form = "+.3f" if sign else ".3f"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"
