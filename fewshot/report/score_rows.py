"""The rows of the table of methods, in the order to show them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.score_columns import Cell, columns_of, dice
from fewshot.report.sheets.scores import best_rows as numbers_of_best
from fewshot.report.wording import annotated
from fewshot.results.summary import Role, Row

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
