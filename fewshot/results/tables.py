"""Tables as people and programs read them: Markdown, CSV, LaTeX and the terminal; the page takes them as they are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rich.table
from rich.markup import escape

from episodes.io.files import csv_text

TableRecord = Mapping[str, Any]

WORDS = frozenset({"dataset", "method", "lesions", "masks"})
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


@dataclass(frozen=True, slots=True)
class Table:
    """A table, written to be read, and the numbers behind it."""

    headings: Sequence[str]
    texts: Sequence[Sequence[str]]  # the cells, (n_rows, n_headings)
    words: Collection[str] = WORDS  # headings of columns of words, which begin at the left; numbers end at the right
    best: Collection[int] = ()  # positions of the rows that stand out
    sections: Collection[int] = ()  # positions of the rows that begin one
    title: str = ""
    name: str = ""  # of its files
    records: Sequence[TableRecord] = ()  # in full precision by column of a file, (n_rows,)

    def csv(self) -> str:
        """Return the records as CSV, numbers as precise as they are, nothing where they are unknown."""
        return csv_text([self.records[0].keys(), *(record.values() for record in self.records)])

    def markdown(self, *, raw: bool = False) -> str:
        r"""Return the table as Markdown below its title, the best rows bold; `raw` takes cells for Markdown already.

        >>> print(Table(["K", "method"], [["1", "PANet"], ["5", "a|b"]], best={1}).markdown(), end="")
        | K | method |
        |---:|:---|
        | 1 | PANet |
        | **5** | **a\|b** |
        """
        written = str if raw else _markdown
        rule = "|".join(":---" if heading in self.words else "---:" for heading in self.headings)
        lines = [f"# {self.title}", ""] if self.title else []
        lines += [_line(map(written, self.headings)), f"|{rule}|"]
        for place, texts in enumerate(self.texts):
            mark = "**" if place in self.best else ""
            lines.append(_line(f"{mark}{written(text)}{mark}" if text else "" for text in texts))
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """Return a LaTeX tabular that needs no package, the best rows bold."""
        columns = "".join("l" if heading in self.words else "r" for heading in self.headings)
        rows = [
            [rf"\textbf{{{_latex(text)}}}" if place in self.best else _latex(text) for text in texts]
            for place, texts in enumerate(self.texts)
        ]
        head, *body = (" & ".join(cells) + r" \\" for cells in [map(_latex, self.headings), *rows])
        top = [f"% {self.title}", rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline"]
        return "\n".join([*top, *body, r"\hline", r"\end{tabular}"]) + "\n"

    def terminal(
        self, *, caption: str | None = None, mark: str = "", style: str = "bold", unbroken: Collection[str] = ()
    ) -> rich.table.Table:
        """Return a table for rich's console; cells of `unbroken` headings stay on one line.

        The best rows have a mark behind their first words: their style is lost where output is piped or colour is off.
        """
        table = rich.table.Table(
            title=self.title or None, title_justify="left", caption=caption, caption_justify="left"
        )
        for heading in self.headings:
            justify: Any = "left" if heading in self.words else "right"
            table.add_column(heading, justify=justify, no_wrap=heading in unbroken)
        marked = next((place for place, heading in enumerate(self.headings) if heading in self.words), 0)
        for place, texts in enumerate(self.texts):
            if place in self.sections:
                table.add_section()
            cells = [escape(text) for text in texts]
            if place in self.best:
                cells[marked] += mark
            table.add_row(*cells, style=style if place in self.best else None)
        return table


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    r"""Write text so that Markdown shows it as it is in a cell.

    >>> print(_markdown("a|b *c*"))
    a\|b \*c\*
    """
    for character in "\\|*_`":
        text = text.replace(character, f"\\{character}")
    return text


def _latex(text: str) -> str:
    r"""Write text so that LaTeX shows it as it is.

    >>> print(_latex("bus_uclm & 95 % of {K}"))
    bus\_uclm \& 95 \% of \{K\}
    """
    return "".join(_LATEX.get(character, character) for character in text)
