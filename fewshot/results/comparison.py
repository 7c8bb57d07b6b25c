"""Every row beside one of them, and beside itself without annotated images: paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

from episodes.errors import UserError
from episodes.holm import holm
from episodes.statistics import Difference
from fewshot.results.summary import Results, Row, compare, indexed


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
