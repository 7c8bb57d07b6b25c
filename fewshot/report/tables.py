"""A report in the terminal, and as one page of Markdown."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from episodes.files import write_text
from fewshot.report.classic import NOTE, classic_markdown
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.exports import markdown_text
from fewshot.report.markdown import table_lines
from fewshot.report.phrases import p_text
from fewshot.report.sheets.differences import pair_sheet
from fewshot.report.sheets.scores import ROW_HEADINGS, best_rows, classic_sheet, row_texts
from fewshot.report.sheets.sheet import Sheet
from fewshot.results.comparison import Compared, CorrectedDifference
from fewshot.results.summary import Row, show
from fewshot.terminal.console import output_console, print_line

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
