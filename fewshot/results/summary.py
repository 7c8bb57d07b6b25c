"""The rows of a benchmark's table: means and intervals of each, and how they rank."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from episodes.scoring.statistics import Bounds, Interval, crossed_bootstrap
from fewshot.results.index import ResultKey, ResultsIndex, SharedCells, cells_of

# Columns of a summary beside the Dice, averaged like it over lesion images.
LESION_SCORES = ("iou", "precision", "recall", "hd95", "nsd", "detected")
MILLIMETRE_SCORES = ("hd95_mm", "nsd_mm")
NORMAL_SCORES = ("false_positive", "false_positive_area")

SAME = 1e-9  # lesion Dice: nearer means are equal but for the order of a sum

Role = Literal["method", "floor", "control", "oracle"]
ResultsTable: TypeAlias = pa.Table | ResultsIndex


@dataclass(frozen=True, slots=True)
class MethodResult:
    """The result of one method at one number of shots on one target: a row of the report's table.

    The other means in `scores` are of lesion images, in millimetres as well (NaN where the size of a pixel is unknown),
    and of normal images those in `NORMAL_SCORES`. Where no row of the table was trained on sources (`within`), what is
    trained on the target is no oracle beside the methods, but all that there is.
    """

    target: str
    method: str
    shot: int
    dice: Interval  # mean over lesion images with its 95 % interval over patients and draws
    seed_spread: float  # standard deviation of the mean Dice over training seeds; NaN for a single seed
    scores: dict[str, float]
    n_lesion: int  # images scored
    n_normal: int
    control: str | None  # what was done to the support sets' masks; None where the row is no control
    control_of: str | None  # a method
    kind: str  # the way of using a model, such as `fine-tuned`
    model: str | None  # None for floors
    trained_on: str | None  # `sources` or `target`; None where nothing was trained
    patient_dice: Interval  # mean over patients of each patient's mean, with its interval
    seed_means: dict[int, float]  # mean lesion Dice by training seed
    n_seeds: int  # of training, whether a lesion was scored or not
    shared: (
        Interval  # `dice` over those lesion images alone that all methods of the target have: to compare with others
    )
    n_shared: int  # such images
    within: bool = False

    @property
    def role(self) -> Role:
        """Return what the row is there for; a `method` alone can be the answer."""
        if self.control is not None:
            return "control"
        if self.trained_on == "target" and not self.within:
            return "oracle"
        return "floor" if self.model is None else "method"

    @property
    def key(self) -> ResultKey:
        """Return what tells it from the other rows."""
        return ResultKey(self.target, self.method, self.shot)


def summarise(results: ResultsTable, targets: Sequence[str]) -> list[MethodResult]:
    """Return the rows of the table, targets in the order given, best first within each number of shots.

    Training seeds are averaged query by query; intervals are over patients and draws, the weights held fixed. The best
    is the one with the highest mean over the lesion images that all methods have which need no more images (`rank`).
    """
    table = indexed(results)
    rows = [_summarise_row(table, key) for target in targets for key in table.keys(target)]
    if all(row.trained_on != "sources" for row in rows):
        rows = [replace(row, within=True) for row in rows]
    return [row for target in targets for row in _compared(table, [row for row in rows if row.target == target])]


def _compared(table: ResultsIndex, rows: Sequence[MethodResult]) -> list[MethodResult]:
    """Sort the rows of a target, and add what they score where all methods can be compared."""
    means: dict[ResultKey, float] = {}
    shared: SharedCells | None = None
    for shot in sorted({row.shot for row in rows}):
        shared = rank(table, rows, shot).cells
        means |= {
            row.key: row.dice.estimate if shared is None else shared.mean(table.grid(row.key))
            for row in rows
            if row.shot == shot
        }
    if shared is not None:
        images = {row.key: int(shared.narrowed(table.grid(row.key)).queries.sum()) for row in rows}
        rows = [replace(row, shared=dice_on(table, row, shared), n_shared=images[row.key]) for row in rows]
    return sorted(rows, key=lambda row: (row.shot, math.isnan(means[row.key]), -means[row.key], row.method))


def dice_on(table: ResultsIndex, row: MethodResult, cells: SharedCells) -> Interval:
    """Compute a row's mean Dice on those of some cells that it has; where it has no others, it is the row's own."""
    grid = table.grid(row.key)
    values = cells.dice(grid)
    if np.array_equal(values, grid.over_seeds("dice"), equal_nan=True):
        return row.dice
    return crossed_bootstrap(values, grid.queries.patients, bounds=_bounds(row.kind))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The rows of one target that can be used with so many annotated images, compared where all have a score."""

    rows: Sequence[MethodResult]  # best first; of equals the one that needs fewest images
    left_out: Sequence[MethodResult]  # those that share no lesion image with the rest
    cells: SharedCells | None  # of all rows; None without any


def rank(results: ResultsTable, rows: Sequence[MethodResult], shot: int) -> Ranking:
    """Rank the rows of one target that can be used with so many annotated images, on what they share.

    Controls and oracles are never for use, and floors only where there is nothing else. Should no image be shared by
    all, rows with the most images are kept before those with fewer.
    """
    table, wanted = indexed(results), usable_role(rows)
    usable = [row for row in rows if row.role == wanted and row.shot <= shot and not math.isnan(row.dice.estimate)]
    kept, left_out, cells = list[MethodResult](), list[MethodResult](), None
    for row in sorted(usable, key=lambda row: (-row.shot, row.method)):
        grid = table.grid(row.key)
        narrowed = cells_of(grid) if cells is None else cells.narrowed(grid)
        if narrowed.present.any():
            cells = narrowed
            kept.append(row)
        else:
            left_out.append(row)
    if cells is None:
        return Ranking([], left_out, None)
    means = {row.key: cells.mean(table.grid(row.key)) for row in kept}
    return Ranking(sorted(kept, key=lambda row: (-means[row.key], row.shot, row.method)), left_out, cells)


def usable_role(rows: Sequence[MethodResult]) -> Role:
    """Return the role of a target's rows that can be used: no control or oracle, floors where nothing else is."""
    return "method" if any(row.role == "method" for row in rows) else "floor"


def is_uneven(rows: Sequence[MethodResult]) -> bool:
    """Return whether rows of one target have different lesion images, so that their Dice cannot be compared as it is.

    Rows with annotated images lack the patients that are in every draw; others may have fewer draws.
    """
    scored = [row for row in rows if row.n_lesion]
    return len({row.n_lesion for row in scored}) > 1 or any(
        abs(row.shared.estimate - row.dice.estimate) > SAME for row in scored
    )


def indexed(results: ResultsTable) -> ResultsIndex:
    """Index results, unless they are indexed already."""
    return results if isinstance(results, ResultsIndex) else ResultsIndex(results)


def _summarise_row(table: ResultsIndex, key: ResultKey) -> MethodResult:
    lesions, normals = table.grid(key), table.grid(key, lesion=False)
    seed_means = lesions.seed_means("dice")
    scores = {name: lesions.mean(name) for name in (*LESION_SCORES, *MILLIMETRE_SCORES)}
    scores |= {name: normals.mean(name) for name in NORMAL_SCORES}
    values, patients = lesions.over_seeds("dice"), lesions.queries.patients
    kind, n_lesion = table.fact(key, "kind"), lesions.n_scored("dice")
    dice = crossed_bootstrap(values, patients, bounds=_bounds(kind))
    return MethodResult(
        *key,
        dice=dice,
        seed_spread=float(np.std(list(seed_means.values()), ddof=1)) if len(seed_means) > 1 else math.nan,
        scores=scores,
        n_lesion=n_lesion,
        n_normal=normals.n_scored("false_positive"),
        control=table.fact(key, "control"),
        control_of=table.fact(key, "control_of"),
        kind=kind,
        model=table.fact(key, "model"),
        trained_on=table.fact(key, "trained_on"),
        patient_dice=crossed_bootstrap(values, patients, unit="patient", bounds=_bounds(kind)),
        seed_means=seed_means,
        n_seeds=len({*lesions.seeds.tolist(), *normals.seeds.tolist()}),
        shared=dice,
        n_shared=n_lesion,
    )


def _bounds(kind: str) -> Bounds | None:
    """Return the least and the largest possible Dice. That `empty` finds nothing is no observation: it has no doubt."""
    return None if kind == "empty" else (0.0, 1.0)


def without_nan(value: Any) -> Any:
    """Return the same tree of dictionaries and lists with null where a number is NaN: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """Return an estimate and its bounds under three names.

    >>> interval_columns("dice", Interval(0.7, 0.6, 0.8))
    {'dice': 0.7, 'dice_low': 0.6, 'dice_high': 0.8}
    """
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
