"""Every row beside one of them, and beside itself without annotated images: paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from episodes.errors import UserError
from episodes.scoring.statistics import Difference, Interval, crossed_bootstrap, holm, paired_difference
from fewshot.results.index import ResultsIndex, RowKey, ScoreGrid

# Columns of a summary beside the Dice, averaged like it over lesion images.
LESION_SCORES = ("iou", "precision", "recall", "hd95", "nsd", "detected")
MILLIMETRE_SCORES = ("hd95_mm", "nsd_mm")
NORMAL_SCORES = ("false_positive", "false_positive_area")

Role = Literal["method", "floor", "control", "oracle"]
Results: TypeAlias = pa.Table | ResultsIndex


@dataclass(frozen=True, slots=True)
class Row:
    """One method at one number of shots on one target.

    Attributes:
        target: dataset.
        method: name in the configuration.
        shot: support images; 0 for none.
        dice: lesion Dice, mean over lesion images with its 95 % interval over patients and draws.
        seed_spread: standard deviation of the mean Dice over training seeds; NaN for a single seed.
        scores: the other means: of lesion images, in millimetres as well (NaN where the size of a pixel is unknown),
            and of normal images those in `NORMAL_SCORES`.
        n_lesion: lesion images scored.
        n_normal: normal images scored.
        control: what was done to the support sets' masks; None where the row is no control.
        control_of: the method that it is a control of; None without one.
        kind: the way of using a model, such as `fine-tuned`.
        model: its name; None for floors.
        trained_on: `sources` or `target`; None where nothing was trained.
        within: whether no row of the table was trained on sources: what is trained on the target is then no oracle
            beside the methods, but all that there is.
        patient_dice: lesion Dice as the mean over patients of each patient's mean, with its interval.
        seed_means: mean lesion Dice by training seed.
    """

    target: str
    method: str
    shot: int
    dice: Interval
    seed_spread: float
    scores: dict[str, float]
    n_lesion: int
    n_normal: int
    control: str | None
    control_of: str | None
    kind: str
    model: str | None
    trained_on: str | None
    patient_dice: Interval
    seed_means: dict[int, float]
    within: bool = False

    @property
    def role(self) -> Role:
        """What the row is there for; a `method` alone can be the answer."""
        if self.control is not None:
            return "control"
        if self.trained_on == "target" and not self.within:
            return "oracle"
        return "floor" if self.model is None else "method"

    @property
    def key(self) -> RowKey:
        """What tells it from the other rows."""
        return RowKey(self.target, self.method, self.shot)


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


def summarise(results: Results, targets: Sequence[str]) -> list[Row]:
    """The rows of the table, best Dice first within each number of shots.

    Training seeds are averaged query by query; intervals are over patients and draws, the weights held fixed.

    Args:
        results: per-query results.
        targets: in the order to show them.
    """
    table = indexed(results)
    rows = [_summarise_row(table, key) for target in targets for key in table.keys(target)]
    if all(row.trained_on != "sources" for row in rows):
        rows = [replace(row, within=True) for row in rows]
    return sorted(rows, key=lambda row: (targets.index(row.target), row.shot, *_best_first(row)))


def usable_role(rows: Sequence[Row]) -> Role:
    """The role of the rows of one target that can be used: controls and oracles never, floors where nothing else is."""
    return "method" if any(row.role == "method" for row in rows) else "floor"


def indexed(results: Results) -> ResultsIndex:
    """The same results, sorted; given sorted, they are not sorted again."""
    return results if isinstance(results, ResultsIndex) else ResultsIndex(results)


def _best_first(row: Row) -> tuple[bool, float, str]:
    """Sorts by falling Dice, what has none last; equals by name."""
    unknown = math.isnan(row.dice.estimate)
    return unknown, 0.0 if unknown else -row.dice.estimate, row.method


def _summarise_row(table: ResultsIndex, key: RowKey) -> Row:
    lesions, normals = table.grid(key), table.grid(key, lesion=False)
    seed_means = lesions.seed_means("dice")
    scores = {name: lesions.mean(name) for name in (*LESION_SCORES, *MILLIMETRE_SCORES)}
    scores |= {name: normals.mean(name) for name in NORMAL_SCORES}
    return Row(
        *key,
        dice=dice_interval(lesions),
        seed_spread=float(np.std(list(seed_means.values()), ddof=1)) if len(seed_means) > 1 else math.nan,
        scores=scores,
        n_lesion=lesions.n_scored("dice"),
        n_normal=normals.n_scored("false_positive"),
        control=table.fact(key, "control"),
        control_of=table.fact(key, "control_of"),
        kind=table.fact(key, "kind"),
        model=table.fact(key, "model"),
        trained_on=table.fact(key, "trained_on"),
        patient_dice=dice_interval(lesions, unit="patient"),
        seed_means=seed_means,
    )


def dice_interval(grid: ScoreGrid, *, unit: Literal["image", "patient"] = "image") -> Interval:
    """Mean Dice of a grid with its 95 % interval over patients and draws.

    Args:
        grid: of lesion images.
        unit: what counts once in the mean: every image, or every patient.
    """
    return crossed_bootstrap(grid.over_seeds("dice"), grid.queries.patients, unit=unit, bounds=(0, 1))


def compare(results: Results, first: Row, second: Row) -> Difference:
    """The difference of two rows' lesion Dice, first minus second, paired on query and draw.

    A row without support sets stands beside every draw of the other: its masks would be the same in each.

    Args:
        results: per-query results.
        first: a row of theirs.
        second: another one of the same target.
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
    """The same tree of dictionaries and lists with null where a number is NaN: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """An estimate and its bounds under three names.

    >>> interval_columns("dice", Interval(0.7, 0.6, 0.8))
    {'dice': 0.7, 'dice_low': 0.6, 'dice_high': 0.8}
    """
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def show(interval: Interval, *, sign: bool = False) -> str:
    """An interval as people write it.

    >>> show(Interval(0.7123, 0.66, 0.751))
    '0.712 [0.660, 0.751]'
    """
    form = "+.3f" if sign else ".3f"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


@dataclass(frozen=True, slots=True)
class CorrectedDifference:
    """A paired difference, and its p-value after Holm's correction over all differences of the same table."""

    difference: Difference
    corrected_p: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of the table and its paired differences in lesion Dice.

    Attributes:
        row: the row.
        to_reference: the row minus the reference row at as many shots, or at none where it has none at as many; None
            for the reference itself, or where there is neither.
        to_zero: the row minus the same method without annotated images; None at K = 0, or where that was not measured.
    """

    row: Row
    to_reference: CorrectedDifference | None
    to_zero: CorrectedDifference | None


def compare_rows(results: Results, rows: Sequence[Row], target: str, reference: str) -> list[Compared]:
    """Every row of a target beside the reference row and beside itself at K = 0, in the order of the rows.

    Args:
        results: per-query results.
        rows: as `summarise` gives them.
        target: dataset.
        reference: a method of the table.

    Raises:
        UserError: if the table has no such method on the target.
    """
    index = indexed(results)
    own = {(row.method, row.shot): row for row in rows if row.target == target}
    if reference not in {method for method, _ in own}:
        names = ", ".join(sorted({method for method, _ in own}))
        raise UserError(f"against {reference!r}: not among the rows of {target}; there are {names}")

    def difference(row: Row, other: Row | None) -> Difference | None:
        return None if other is None or other is row else compare(index, row, other)

    pairs = [
        (
            difference(row, None if method == reference else own.get((reference, shot), own.get((reference, 0)))),
            difference(row, own.get((method, 0))),
        )
        for (method, shot), row in own.items()
    ]
    corrected = iter(holm([found.p_value for pair in pairs for found in pair if found is not None]))
    both = [
        [None if found is None else CorrectedDifference(found, next(corrected)) for found in pair] for pair in pairs
    ]
    return [Compared(row, *pair) for row, pair in zip(own.values(), both, strict=True)]
