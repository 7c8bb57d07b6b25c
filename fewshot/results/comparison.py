"""Paired differences between rows of a benchmark's table, and how much each of them says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from math import isnan, nan
from typing import Literal

import numpy as np

from episodes.errors import UserError
from episodes.scoring.statistics import FEW_PATIENTS, Difference, Interval, holm, paired_difference
from fewshot.results.index import SharedCells, cells_of
from fewshot.results.summary import SAME, MethodResult, ResultsTable, indexed

CLEAR = 0.05  # p-values, after correction, below which a difference is called clear
EQUIVALENT = 0.02  # lesion Dice: what lies within it either way is called just as good

Verdict = Literal["higher", "lower", "alike", "unclear", "unknown"]


def verdict_on(interval: Interval, corrected_p: float) -> Verdict:
    """Return what a paired difference allows to say of the first of the two rows.

    `higher` and `lower` are clear differences: the interval leaves zero out, and so does the p-value after correction
    for how many rows were compared, since the best of several is picked. `alike` is not the lack of a clear difference:
    the whole interval lies within `EQUIVALENT` of zero. All else is `unclear`, and `unknown` where there is no p-value:
    of too few patients, or without a common image.

    >>> verdict_on(Interval(0.05, 0.02, 0.08), 0.01), verdict_on(Interval(0.05, 0.02, 0.08), 0.06)
    ('higher', 'unclear')
    >>> verdict_on(Interval(0.0, -0.02, 0.02), 0.9), verdict_on(Interval(0.0, -0.02, 0.021), 0.9)
    ('alike', 'unclear')
    """
    if isnan(corrected_p) or isnan(interval.low) or isnan(interval.high):
        return "unknown"
    if corrected_p < CLEAR and interval.low > SAME:
        return "higher"
    if corrected_p < CLEAR and interval.high < -SAME:
        return "lower"
    return "alike" if is_small(interval) else "unclear"


def is_small(interval: Interval) -> bool:
    """Return whether a whole interval of a difference lies within `EQUIVALENT` of zero."""
    return interval.low >= -EQUIVALENT - SAME and interval.high <= EQUIVALENT + SAME


def compare(
    results: ResultsTable, first: MethodResult, second: MethodResult, cells: SharedCells | None = None
) -> Difference:
    """Compute the difference of two rows' lesion Dice on one target, first minus second, paired on query and draw.

    A row without support sets stands beside every draw of the other: its masks would be the same in each. With `cells`
    it is over those alone, as far as both rows have them. Fewer than `FEW_PATIENTS` give no p-value: an interval of so
    few holds less than it says, and that of one patient is over draws alone.
    """
    table = indexed(results)
    ours, theirs = table.grid(first.key), table.grid(second.key)
    both = (cells or cells_of(ours)).narrowed(ours).narrowed(theirs)
    left, right = np.broadcast_arrays(both.dice(ours), both.dice(theirs))
    patients = ours.queries.patients
    found = paired_difference(left, right, patients, bounds=(-1, 1))
    few = len(set(compress(patients, both.queries))) < FEW_PATIENTS
    return replace(found, p_value=nan) if few else found


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows of one target beside each other."""

    row: MethodResult
    other: MethodResult
    difference: Difference  # lesion Dice of `row` minus `other`, paired on query and draw
    corrected_p: float  # after Holm's correction over all comparisons that were made together

    @property
    def interval(self) -> Interval:
        """Return the difference with its interval."""
        return self.difference.interval

    @property
    def verdict(self) -> Verdict:
        """Return what may be said of `row`."""
        return verdict_on(self.interval, self.corrected_p)

    def turned(self) -> "Comparison":
        """Return the same with the rows exchanged."""
        difference = replace(self.difference, interval=-self.interval)
        return Comparison(self.other, self.row, difference, self.corrected_p)


def compare_all(
    results: ResultsTable, pairs: Sequence[tuple[MethodResult, MethodResult]], cells: SharedCells | None = None
) -> list[Comparison]:
    """Compare rows with others, and correct the p-values for how many comparisons these are (Holm 1979)."""
    index = indexed(results)
    differences = [compare(index, row, other, cells) for row, other in pairs]
    corrected = holm([difference.p_value for difference in differences])
    found = zip(pairs, differences, corrected, strict=True)
    return [Comparison(*pair, difference, p) for pair, difference, p in found]


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
