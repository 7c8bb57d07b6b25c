"""A report's tables as CSV, Markdown and LaTeX."""

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from episodes.files import write_text
from fewshot.report.content import ReportContent
from fewshot.report.markdown import table_lines
from fewshot.report.sheets import sheets_of
from fewshot.report.sheets.sheet import Sheet

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
}


def write_tables(content: ReportContent, folder: Path) -> list[Path]:
    """Write every table of a report as CSV, with numbers in full, and to read as Markdown and LaTeX.

    Args:
        content: all that the report says.
        folder: where to; it is made where needed.

    Returns:
        The files written.
    """
    formats = {"csv": csv_text, "md": markdown_text, "tex": latex_text}
    files = []
    for sheet in sheets_of(content):
        for suffix, form in formats.items():
            files.append(folder / f"{sheet.name}.{suffix}")
            write_text(files[-1], form(sheet))
    return files


def csv_text(sheet: Sheet) -> str:
    """A table as CSV: a bound a column, numbers as precise as they are, nothing where they are unknown."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(sheet.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in record.items()} for record in sheet.records)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and isnan(value)) else value


def markdown_text(sheet: Sheet) -> str:
    """A table as Markdown, the best rows bold."""
    words = {place for place, word in enumerate(sheet.words) if word}
    marks = dict.fromkeys(sheet.best, "**")
    cells = (
        [f"{marks.get(number, '')}{markdown(text)}{marks.get(number, '')}" if text else "" for text in texts]
        for number, texts in enumerate(sheet.texts)
    )
    lines = [f"# {sheet.title}", "", *table_lines([*map(markdown, sheet.headings)], cells, words)]
    return "\n".join(lines) + "\n"


def markdown(text: str) -> str:
    r"""Text in a cell of a Markdown table.

    >>> print(markdown("a|b *c*"))
    a\|b \*c\*
    """
    for character in "\\|*_`":
        text = text.replace(character, f"\\{character}")
    return text


def latex_text(sheet: Sheet) -> str:
    """A table as a LaTeX tabular that needs no package, the best rows bold."""
    columns = "".join("l" if word else "r" for word in sheet.words)
    lines = [f"% {sheet.title}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", _latex_row(sheet.headings, bold=False)]
    lines.append(r"\hline")
    lines += [_latex_row(texts, bold=number in sheet.best) for number, texts in enumerate(sheet.texts)]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _latex_row(texts: Sequence[str], *, bold: bool) -> str:
    cells = [latex(text) for text in texts]
    return " & ".join(rf"\textbf{{{cell}}}" if bold else cell for cell in cells) + r" \\"


def latex(text: str) -> str:
    r"""Text as LaTeX takes it.

    >>> print(latex("bus_uclm & 95 % of {K}"))
    bus\_uclm \& 95 \% of \{K\}
    """
    return "".join(_LATEX.get(character, character) for character in text)
