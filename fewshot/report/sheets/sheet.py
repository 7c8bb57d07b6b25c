"""One table, before it is written in any format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from episodes.statistics import Difference
from fewshot.report.phrases import p_text
from fewshot.results.summary import interval_columns, show

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


def difference_record(difference: Difference, corrected_p: float) -> Record:
    """A paired difference with both p-values."""
    interval = interval_columns("difference", difference.interval)
    return {**interval, "p_value": difference.p_value, "corrected_p": corrected_p}


def difference_texts(difference: Difference, corrected_p: float) -> list[str]:
    """The same to read."""
    return [show(difference.interval, sign=True), p_text(difference.p_value), p_text(corrected_p)]


def or_dash(value: float, form: str = ".3f") -> str:
    """A number, or a dash where it is unknown."""
    return "-" if isnan(value) else f"{value:{form}}"
