"""The rows of a benchmark's table: means and intervals of each, and paired differences between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from episodes.errors import UserError
from episodes.scoring.statistics import Bounds, Difference, Interval, crossed_bootstrap, holm, paired_difference
from fewshot.results.index import ResultKey, ResultsIndex, ScoreGrid

# Columns of a summary beside the Dice, averaged like it over lesion images.
LESION_SCORES = ("iou", "precision", "recall", "hd95", "nsd", "detected")
MILLIMETRE_SCORES = ("hd95_mm", "nsd_mm")
NORMAL_SCORES = ("false_positive", "false_positive_area")

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
    """Return the rows of the table, targets in the order given, best Dice first within each number of shots.

    Training seeds are averaged query by query; intervals are over patients and draws, the weights held fixed.
    """
    table = indexed(results)
    rows = [_summarise_row(table, key) for target in targets for key in table.keys(target)]
    if all(row.trained_on != "sources" for row in rows):
        rows = [replace(row, within=True) for row in rows]
    return sorted(rows, key=lambda row: (targets.index(row.target), row.shot, *_best_first(row)))


def usable_role(rows: Sequence[MethodResult]) -> Role:
    """Return the role of a target's rows that can be used: no control or oracle, floors where nothing else is."""
    return "method" if any(row.role == "method" for row in rows) else "floor"


def candidates(rows: Sequence[MethodResult], shot: int) -> list[MethodResult]:
    """Return rows that can be used with so many annotated images, best first; of equals the one that needs fewest.

    Controls and oracles are never for use, and floors only where there is nothing else.
    """
    wanted = usable_role(rows)
    usable = [row for row in rows if row.role == wanted and row.shot <= shot and not math.isnan(row.dice.estimate)]
    return sorted(usable, key=lambda row: (-row.dice.estimate, row.shot, row.method))


def indexed(results: ResultsTable) -> ResultsIndex:
    """Index results, unless they are indexed already."""
    return results if isinstance(results, ResultsIndex) else ResultsIndex(results)


def _best_first(row: MethodResult) -> tuple[bool, float, str]:
    """Sort by falling Dice, what has none last; equals by name."""
    unknown = math.isnan(row.dice.estimate)
    return unknown, 0.0 if unknown else -row.dice.estimate, row.method


def _summarise_row(table: ResultsIndex, key: ResultKey) -> MethodResult:
    lesions, normals = table.grid(key), table.grid(key, lesion=False)
    seed_means = lesions.seed_means("dice")
    scores = {name: lesions.mean(name) for name in (*LESION_SCORES, *MILLIMETRE_SCORES)}
    scores |= {name: normals.mean(name) for name in NORMAL_SCORES}
    # That `empty` finds nothing is no observation, and leaves no doubt.
    bounds = None if table.fact(key, "kind") == "empty" else (0.0, 1.0)
    return MethodResult(
        *key,
        dice=dice_interval(lesions, bounds=bounds),
        seed_spread=float(np.std(list(seed_means.values()), ddof=1)) if len(seed_means) > 1 else math.nan,
        scores=scores,
        n_lesion=lesions.n_scored("dice"),
        n_normal=normals.n_scored("false_positive"),
        control=table.fact(key, "control"),
        control_of=table.fact(key, "control_of"),
        kind=table.fact(key, "kind"),
        model=table.fact(key, "model"),
        trained_on=table.fact(key, "trained_on"),
        patient_dice=dice_interval(lesions, unit="patient", bounds=bounds),
        seed_means=seed_means,
    )


def dice_interval(
    grid: ScoreGrid, *, unit: Literal["image", "patient"] = "image", bounds: Bounds | None = (0, 1)
) -> Interval:
    """Compute the mean Dice of lesion images with its 95 % interval; every image, or every patient, counts once."""
    return crossed_bootstrap(grid.over_seeds("dice"), grid.queries.patients, unit=unit, bounds=bounds)


def compare(results: ResultsTable, first: MethodResult, second: MethodResult) -> Difference:
    """Compute the difference of two rows' lesion Dice on one target, first minus second, paired on query and draw.

    A row without support sets stands beside every draw of the other: its masks would be the same in each.
    """
    table = indexed(results)
    ours, theirs = (table.grid(row.key) for row in (first, second))
    left, right = ours.over_seeds("dice"), theirs.over_seeds("dice")
    if -1 not in ours.draws and -1 not in theirs.draws:
        _, in_ours, in_theirs = np.intersect1d(ours.draws, theirs.draws, return_indices=True)
        left, right = left[in_ours], right[in_theirs]
    left, right = np.broadcast_arrays(left, right)
    return paired_difference(left, right, ours.queries.patients, bounds=(-1, 1))


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


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows of one target beside each other."""

    row: MethodResult
    other: MethodResult
    difference: Difference  # lesion Dice of `row` minus `other`, paired on query and draw
    corrected_p: float  # after Holm's correction over all comparisons that were made together


def compare_all(results: ResultsTable, pairs: Sequence[tuple[MethodResult, MethodResult]]) -> list[Comparison]:
    """Compare rows with others, and correct the p-values for how many comparisons these are (Holm 1979)."""
    index = indexed(results)
    differences = [compare(index, row, other) for row, other in pairs]
    corrected = holm([difference.p_value for difference in differences])
    return [
        Comparison(*pair, *found) for pair, found in zip(pairs, zip(differences, corrected, strict=True), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of the table and its paired differences in lesion Dice.

    It stands beside the reference method at as many shots, or at none where that has none at as many; `to_reference`
    is None for the reference itself, or where there is neither. And it stands beside its own method without annotated
    images; `to_zero` is None at K = 0, or where that was not measured.
    """

    row: MethodResult
    to_reference: Comparison | None
    to_zero: Comparison | None


def compare_rows(results: ResultsTable, rows: Sequence[MethodResult], target: str, reference: str) -> list[Compared]:
    """Compare every row of a target with the reference method's and with itself at K = 0, in the order of the rows.

    Raises:
        UserError: if the table has no such method on the target.
    """
    own = {(row.method, row.shot): row for row in rows if row.target == target}
    if reference not in {method for method, _ in own}:
        names = ", ".join(sorted({method for method, _ in own}))
        raise UserError(f"against {reference!r}: not among the rows of {target}; there are {names}")
    found = []
    for (method, shot), row in own.items():
        against = None if method == reference else own.get((reference, shot), own.get((reference, 0)))
        found.append((row, against, own.get((method, 0)) if shot else None))
    pairs = [(row, other) for row, *others in found for other in others if other is not None]
    compared = {(one.row.key, one.other.key): one for one in compare_all(results, pairs)}
    return [
        Compared(row, *(None if other is None else compared[row.key, other.key] for other in others))
        for row, *others in found
    ]
