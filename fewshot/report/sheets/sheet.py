"""One table, before it is written in any format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from episodes.statistics import Difference, Interval
from fewshot.report.phrases import p_text
from fewshot.results.summary import show

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table.

    Attributes:
        name: of its files.
        title: in words.
        headings: of the texts; those in `words` stand left, numbers right.
        records: numbers in full precision by column, a bound a column; (n_rows,).
        texts: the same to read, (n_rows, n_headings).
        best: numbers of the rows that are marked.
    """

    name: str
    title: str
    headings: Sequence[str]
    records: Sequence[Record]
    texts: Sequence[Sequence[str]]
    best: frozenset[int] = frozenset()

    @property
    def words(self) -> list[bool]:
        """Which columns hold words, by their headings."""
        return [heading in ("dataset", "method", "lesions", "masks") for heading in self.headings]


def interval_record(name: str, interval: Interval) -> Record:
    """An estimate and its bounds, a column each.

    >>> interval_record("dice", Interval(0.7, 0.6, 0.8))
    {'dice': 0.7, 'dice_low': 0.6, 'dice_high': 0.8}
    """
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def difference_record(difference: Difference, corrected_p: float) -> Record:
    """A paired difference with both p-values."""
    interval = interval_record("difference", difference.interval)
    return {**interval, "p_value": difference.p_value, "corrected_p": corrected_p}


def difference_texts(difference: Difference, corrected_p: float) -> list[str]:
    """The same to read."""
    return [show(difference.interval, sign=True), p_text(difference.p_value), p_text(corrected_p)]


def or_dash(value: float, form: str = ".3f") -> str:
    """A number, or a dash where it is unknown."""
    return "-" if isnan(value) else f"{value:{form}}"
