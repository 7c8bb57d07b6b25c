"""The table of scores on the page: its columns and rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from episodes.scoring.statistics import Interval
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.sheets import best_rows as numbers_of_best
from fewshot.results.summary import Role, Row
from fewshot.results.tables import DASH, annotated, brackets, number, percent


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


TAGS: dict[Role, str] = {"floor": "floor", "control": "control", "oracle": "trained on it", "method": ""}


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell in its place: of which dataset, and whether it is the highest lesion Dice among its neighbours."""

    target: str
    cell: Cell
    best: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        method: the method's name.
        shot: support images.
        role: of the row.
        tag: what to know of it, if anything.
        cells: None where a dataset lacks the row.
    """

    method: str
    shot: int
    role: Role
    tag: str
    cells: Sequence[Placed | None]


@dataclass(frozen=True, slots=True)
class Group:
    """All lines with one number of annotated images."""

    title: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown: above each column its title and meaning, then groups of lines."""

    heads: Sequence[tuple[str, str]]
    groups: Sequence[Group]


def overview(content: ReportContent) -> Table:
    """Methods by datasets: lesion Dice alone."""
    known = {(row.shot, row.method, row.target): row for row in content.rows}
    names = [target.target for target in content.targets]
    best = [row for target in content.targets for row in best_rows(target)]
    lines = [
        _line(
            [(row, dice, row in best) if row else None for row in (known.get((shot, method, name)) for name in names)]
        )
        for shot, method in dict.fromkeys((shot, method) for shot, method, _ in known)
    ]
    return Table([(name, "lesion Dice, mean over lesion images") for name in names], _grouped(lines))


def details(target: TargetContent) -> Table:
    """All scores of one dataset."""
    columns, best = columns_of(target.rows), best_rows(target)
    lines = [
        _line([(row, column.cell, column.cell is dice and row in best) for column in columns]) for row in target.rows
    ]
    return Table([(column.title, column.meaning) for column in columns], _grouped(lines))


def best_rows(target: TargetContent) -> list[Row]:
    """The row with the highest lesion Dice at each number of shots; no floor, control or oracle."""
    best = (target.rows[number] for number in sorted(numbers_of_best(target.rows)))
    return [row for row in best if row.role == "method"]


def _line(cells: Sequence[tuple[Row, Callable[[Row], Cell], bool] | None]) -> Line:
    row = next(cell[0] for cell in cells if cell)
    placed = [Placed(cell[0].target, cell[1](cell[0]), cell[2]) if cell else None for cell in cells]
    return Line(row.method, row.shot, row.role, TAGS[row.role], placed)


def _grouped(lines: Sequence[Line]) -> list[Group]:
    shots = sorted({line.shot for line in lines})
    return [Group(f"with {annotated(shot)}", [line for line in lines if line.shot == shot]) for shot in shots]
