"""The columns of the table of methods: which there are, and how each cell reads."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from episodes.statistics import Interval
from fewshot.report.wording import DASH, brackets, number, percent
from fewshot.results.summary import Row


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table.

    Attributes:
        score: its name in the results.
        value: in full.
        text: as it is shown.
        bounds: of its interval, as shown; empty without one.
        interval: in full; None without one.
    """

    score: str
    value: float
    text: str
    bounds: str = ""
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        title: above it.
        meaning: in a few words, for those who point at it.
        cell: of a row.
    """

    title: str
    meaning: str
    cell: Callable[[Row], Cell]


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """All columns that any of the rows has a number for."""
    return [column for column in COLUMNS if any(not math.isnan(column.cell(row).value) for row in rows)]


def dice(row: Row) -> Cell:
    """The lesion Dice of a row."""
    return Cell("dice", row.dice.estimate, number(row.dice.estimate), brackets(row.dice), row.dice)


def _patient_dice(row: Row) -> Cell:
    mean = row.patient_dice
    return Cell("patient_dice", mean.estimate, number(mean.estimate), brackets(mean), mean)


def _seed_spread(row: Row) -> Cell:
    shown = DASH if math.isnan(row.seed_spread) else f"±{number(row.seed_spread)}"
    return Cell("seed_spread", row.seed_spread, shown)


def _score(name: str, show: Callable[[float], str]) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = row.scores.get(name, math.nan)
        return Cell(name, value, show(value))

    return cell


def _tenths(value: float) -> str:
    return number(value, 1)


COLUMNS = (
    Column("lesion Dice", "overlap with the true lesion, 0 to 1; mean over lesion images", dice),
    Column("per patient", "the same, each patient counting once", _patient_dice),
    Column("seeds", "how far the mean differs between training seeds (standard deviation)", _seed_spread),
    Column("false lesions", "share of normal images on which a lesion is seen", _score("false_positive", percent)),
    Column("found", "share of lesions with an IoU above 0.5", _score("detected", percent)),
    Column("IoU", "shared area over joint area, 0 to 1", _score("iou", number)),
    Column("NSD", "share of the outline within the tolerance", _score("nsd", number)),
    Column("HD95, px", "distance of the outlines but for the worst 5 %; smaller is better", _score("hd95", _tenths)),
    Column("precision", "share of what was marked that is lesion", _score("precision", number)),
    Column("recall", "share of the lesion that was marked", _score("recall", number)),
    Column("NSD, mm", "share of the outline within a tolerance in millimetres", _score("nsd_mm", number)),
    Column("HD95, mm", "distance of the outlines in millimetres", _score("hd95_mm", _tenths)),
)
