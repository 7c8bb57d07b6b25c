"""A report as files: tables, a summary, and what the terminal shows."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from episodes.io.files import write_text
from fewshot.report.classic import NOTE, classic_markdown
from fewshot.report.content import Answer, Control, ReportContent, Share, TargetContent
from fewshot.report.sentences import p_text
from fewshot.report.sheets import (
    ROW_HEADINGS,
    Sheet,
    best_rows,
    classic_sheet,
    comparison_sheet,
    pair_sheet,
    row_texts,
    sheets_of,
)
from fewshot.results.summary import Compared, CorrectedDifference, Row, show, without_nan
from fewshot.results.tables import table_lines
from fewshot.terminal import output_console, print_line

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


SUMMARY = "summary.json"


def write_summary(folder: Path, content: ReportContent) -> Path:
    """Write all of a report but its pictures, configuration and environment as strict JSON, NaN as null.

    Returns:
        The file written.
    """
    path = folder / SUMMARY
    write_text(path, json.dumps(without_nan(summary_of(content)), indent=1, allow_nan=False) + "\n")
    return path


def summary_of(content: ReportContent) -> dict[str, Any]:
    """The same as a tree of dictionaries and lists; NaN where something is unknown."""
    parts = content.targets
    return {
        "title": content.title,
        "headline": content.headline,
        "warnings": list(content.warnings),
        "facts": dict(content.facts),
        "answers": {part.target: [_answer(answer) for answer in part.answers] for part in parts},
        "images": {
            part.target: {"lesion": part.n_lesion, "normal": part.n_normal, "patients": part.n_patients}
            for part in parts
        },
        "rows": [asdict(row) | {"role": row.role} for part in parts for row in part.rows],
        "comparisons": list(comparison_sheet(content).records),
        "controls": [_control(control) for part in parts for control in part.controls],
        "size_edges": {part.target: list(part.size_edges) for part in parts},
        "sizes": [_share(share) for part in parts for share in part.sizes],
        "labels": [_share(share) for part in parts for share in part.labels],
        "calibration": [entry for part in parts for entry in _calibration(part)],
        "classic": [asdict(row) for part in parts for row in part.classic],
        "pairs": list(pair_sheet(content).records),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "shot": answer.shot,
        "sentence": answer.sentence,
        "best": _row(answer.best),
        "rival": _row(answer.rival),
        "lead": None if answer.lead is None else asdict(answer.lead),
        "without": _row(answer.without),
        "gain": None if answer.gain is None else asdict(answer.gain),
    }


def _row(row: Row | None) -> dict[str, Any] | None:
    """What names a row of `rows`, and its Dice."""
    return None if row is None else {"method": row.method, "shot": row.shot, "dice": asdict(row.dice)}


def _control(control: Control) -> dict[str, Any]:
    return {**asdict(control.controlled), "sentence": control.sentence}


def _share(share: Share) -> dict[str, Any]:
    named = {"target": share.row.target, "method": share.row.method, "shot": share.row.shot}
    return {**named, "group": share.group, "n_images": share.n_images, "dice": asdict(share.dice)}


def _calibration(part: TargetContent) -> list[dict[str, Any]]:
    return [
        {"target": part.target, "method": method, "shot": shot, **asdict(found)}
        for (method, shot), found in part.reliability.items()
    ]


MARKDOWN = "summary.md"
# Bold is lost where output is piped or colour is off.
BEST = "*"
BEST_NOTE = f"{BEST} best with as many annotated images; controls and oracles are not for use"


def terminal_table(part: TargetContent) -> Table:
    """A rich table of one target; within each number of shots the best row that can be used is bold and starred."""
    table = Table(title=_counts(part), title_justify="left", caption=BEST_NOTE, caption_justify="left")
    for heading in ROW_HEADINGS:
        is_text = heading == "method"
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != ROW_HEADINGS[-1])
    best = best_rows(part.rows)
    for number, row in enumerate(part.rows):
        if number and row.shot != part.rows[number - 1].shot:
            table.add_section()
        shot, method, *scores = map(escape, row_texts(row))
        marked = f"{method} {BEST}" if number in best else method
        table.add_row(shot, marked, *scores, style="bold" if number in best else None)
    return table


def sheet_table(sheet: Sheet, caption: str | None = None) -> Table:
    """A rich table of any other table of a report."""
    table = Table(title=sheet.title, title_justify="left", caption=caption, caption_justify="left")
    for heading, is_text in zip(sheet.headings, sheet.words, strict=True):
        table.add_column(heading, justify="left" if is_text else "right")
    for texts in sheet.texts:
        table.add_row(*map(escape, texts))
    return table


def _counts(part: TargetContent) -> str:
    patients = "1 patient" if part.n_patients == 1 else f"{part.n_patients} patients"
    return f"{part.target}: {part.n_lesion} lesion and {part.n_normal} normal images of {patients}"


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows of one target as Markdown, with the best of each number of shots in bold."""
    marks = dict.fromkeys(best_rows(rows), "**")
    cells = (
        [f"{marks.get(number, '')}{text}{marks.get(number, '')}" for text in row_texts(row)]
        for number, row in enumerate(rows)
    )
    return "\n".join(table_lines(ROW_HEADINGS, cells, words={1})) + "\n"


def write_markdown(folder: Path, content: ReportContent) -> Path:
    """Write `summary.md`: the headline, then each target's table, answers and what its controls say, then warnings.

    Returns:
        The file written.
    """
    parts = [f"{content.headline}\n", *(text for part in content.targets for text in _markdown_parts(part))]
    if content.pairs:
        parts.append(markdown_text(pair_sheet(content)))
    parts += [f"Note: {warning}\n" for warning in content.warnings]
    path = folder / MARKDOWN
    write_text(path, "\n".join(parts))
    return path


def _markdown_parts(part: TargetContent) -> Iterator[str]:
    yield f"## {_counts(part)}\n"
    yield markdown_table(part.rows)
    if part.classic:
        yield classic_markdown(part.classic)
    yield from (f"{line}\n" for line in _conclusions(part))


def comparison_table(compared: Sequence[Compared], reference: str) -> str:
    """Each row's lesion Dice and its paired differences as Markdown; p-values as they are, and corrected."""
    header = ("K", "method", "lesion Dice [95 %]", f"minus {reference}", "minus itself at K = 0")
    cells = (
        [
            str(one.row.shot),
            one.row.method,
            show(one.row.dice),
            *map(_difference_text, (one.to_reference, one.to_zero)),
        ]
        for one in compared
    )
    return "\n".join(table_lines(header, cells, words={1})) + "\n"


def _difference_text(found: CorrectedDifference | None) -> str:
    if found is None:
        return ""
    raw, corrected = p_text(found.difference.p_value), p_text(found.corrected_p)
    return f"{show(found.difference.interval, sign=True)}, p = {raw}, corrected {corrected}".replace("= <", "< ")


def _conclusions(part: TargetContent) -> list[str]:
    """The answers from few to many annotated images, then a sentence about every control."""
    return [*(answer.sentence for answer in part.answers), *(control.sentence for control in part.controls)]


def print_summary(content: ReportContent, files: Sequence[Path]) -> None:
    """Print the headline, each target's table and what it says, warnings, then where the results are."""
    console = output_console()
    _print_sentence(console, content.headline, style="bold")
    console.print()
    for part in content.targets:
        console.print(terminal_table(part))
        for line in _conclusions(part):
            _print_sentence(console, line)
        console.print()
    for sheet, caption in ((classic_sheet(content), NOTE), (pair_sheet(content), None)):
        if sheet.records:
            console.print(sheet_table(sheet, caption))
            console.print()
    for warning in content.warnings:
        _print_sentence(console, f"Note: {warning}")
    print_line(console, f"Results: {', '.join(map(str, files))}")


def _print_sentence(console: Console, text: str, style: str | None = None) -> None:
    """Print a sentence, on a terminal wrapped between words, elsewhere on a line of its own."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=not console.is_terminal)
