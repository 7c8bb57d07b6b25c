"""The summary as a table: in the terminal, and as Markdown."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from episodes.curation import CheckReport
from episodes.files import write_text
from fewshot.comparison import Compared
from fewshot.summary import Row, answer, compare_controls, judge_control, show

COLUMNS = ("K", "method", "lesion Dice [95 %]", "IoU", "found", "HD95", "NSD", "normals with a false lesion")


def terminal_table(rows: Sequence[Row], target: str) -> Table:
    """A rich table of one target; within each number of shots the best row that is no control is bold."""
    own = [row for row in rows if row.target == target]
    count = f"{own[0].n_lesion} lesion and {own[0].n_normal} normal images"
    table = Table(title=f"{target}: {count}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=column != COLUMNS[-1])
    for shot, group in groupby(own, key=lambda row: row.shot):
        if shot != own[0].shot:
            table.add_section()
        for row, is_best in _with_best(group):
            table.add_row(*_texts(row), style="bold" if is_best else None)
    return table


def _with_best(rows: Iterable[Row]) -> Iterator[tuple[Row, bool]]:
    """Rows from best to worst, and which is the best that is no control."""
    found = False
    for row in rows:
        is_best = row.control is None and not found
        found |= is_best
        yield row, is_best


def markdown_table(rows: Sequence[Row], target: str) -> str:
    """The same table as Markdown, with the best row of each number of shots in bold."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---:|:---" + "|---:" * (len(COLUMNS) - 2) + "|"]
    own = [row for row in rows if row.target == target]
    for _, group in groupby(own, key=lambda row: row.shot):
        for row, is_best in _with_best(group):
            mark = "**" if is_best else ""
            lines.append("| " + " | ".join(f"{mark}{text}{mark}" for text in _texts(row)) + " |")
    return "\n".join(lines) + "\n"


def write_markdown(folder: Path, table: pa.Table, rows: Sequence[Row], targets: Sequence[str]) -> Path:
    """Write `summary.md`: each target's table, answer and what its controls say.

    Returns:
        The file written.
    """
    parts = [
        "\n".join([markdown_table(rows, target), *(f"{line}\n" for line in _conclusions(table, rows, target))])
        for target in targets
    ]
    path = folder / "summary.md"
    write_text(path, "\n".join(parts))
    return path


def comparison_table(compared: Sequence[Compared], reference: str) -> str:
    """Each row's lesion Dice and its paired differences as Markdown."""
    header = ("K", "method", "lesion Dice [95 %]", f"minus {reference}", "minus itself at K = 0")
    lines = ["| " + " | ".join(header) + " |", "|---:|:---|---:|---:|---:|"]
    for one in compared:
        differences = (
            "" if found is None else f"{show(found.interval, sign=True)}, p = {found.p_value:.3f}"
            for found in (one.to_reference, one.to_zero)
        )
        lines.append("| " + " | ".join([str(one.row.shot), one.row.method, show(one.row.dice), *differences]) + " |")
    return "\n".join(lines) + "\n"


def _conclusions(table: pa.Table, rows: Sequence[Row], target: str) -> list[str]:
    """The answer, then a sentence about every control."""
    return [answer(table, rows, target), *map(judge_control, compare_controls(table, rows, target))]


def _texts(row: Row) -> list[str]:
    scores = row.scores
    dice = show(row.dice) + (f" ±{row.seed_spread:.3f} over seeds" if not math.isnan(row.seed_spread) else "")
    return [
        str(row.shot),
        row.method,
        dice,
        f"{scores['iou']:.3f}",
        f"{scores['detected']:.0%}",
        f"{scores['hd95']:.1f}",
        f"{scores['nsd']:.3f}",
        "-" if math.isnan(scores["false_positive"]) else f"{scores['false_positive']:.0%}",
    ]


def print_summary(table: pa.Table, rows: Sequence[Row], targets: Sequence[str], files: Sequence[Path]) -> None:
    """Print each target's table, answer and what its controls say, then where the results are."""
    console = _console()
    for target in targets:
        console.print(terminal_table(rows, target))
        for line in _conclusions(table, rows, target):
            console.print(line, highlight=False, markup=False)
        console.print()
    _print_line(console, f"Results: {', '.join(map(str, files))}")


def print_check(report: CheckReport) -> None:
    """Print what is in a dataset beside what its paper says, then every finding."""
    console = _console()
    _print_line(console, f"{report.dataset}: {report.root}")
    table = Table()
    for column in ("", "here", "published"):
        table.add_column(column, justify="left" if not column else "right")
    for name, count in report.counts.items():
        table.add_row(name, str(count), str(report.published.get(name, "-")))
    console.print(table)
    kinds = Counter(finding.kind for finding in report.findings)
    for kind, count in kinds.items():
        console.print(f"{kind}: {count}", style="bold", highlight=False)
        for finding in report.findings:
            if finding.kind == kind:
                _print_line(console, f"  {', '.join(finding.subjects)}: {finding.detail}")
    if not kinds:
        console.print("nothing found wrong")


def _print_line(console: Console, text: str) -> None:
    """Print text as it is: a path may hold brackets, and must not be broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
    console = Console()
    # Piped or logged, a table keeps its width: wrapping it to 80 columns would break its rows.
    return console if console.is_terminal else Console(width=140)
