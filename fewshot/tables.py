"""The summary as a table: in the terminal, and as Markdown."""

import math
from collections.abc import Sequence

from rich.table import Table

from fewshot.summary import Row, show

COLUMNS = ("K", "method", "lesion Dice [95 %]", "IoU", "found", "HD95", "NSD", "normals with a false lesion")


def terminal_table(rows: Sequence[Row], target: str) -> Table:
    """A rich table of one target; within each number of shots the best row is bold."""
    own = [row for row in rows if row.target == target]
    count = f"{own[0].n_lesion} lesion and {own[0].n_normal} normal images"
    table = Table(title=f"{target}: {count}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=column != COLUMNS[-1])
    shot = None
    for row in own:
        if shot is not None and row.shot != shot:
            table.add_section()
        table.add_row(*_texts(row), style="bold" if row.shot != shot else None)
        shot = row.shot
    return table


def markdown_table(rows: Sequence[Row], target: str) -> str:
    """The same table as Markdown, with the best row of each number of shots in bold."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---:|:---" + "|---:" * (len(COLUMNS) - 2) + "|"]
    shot = None
    for row in rows:
        if row.target == target:
            mark = "**" if row.shot != shot else ""
            lines.append("| " + " | ".join(f"{mark}{text}{mark}" for text in _texts(row)) + " |")
            shot = row.shot
    return "\n".join(lines) + "\n"


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
