"""Tables as Markdown."""

from collections.abc import Collection, Iterable, Sequence


def table_lines(header: Sequence[str], rows: Iterable[Iterable[str]], words: Collection[int]) -> list[str]:
    """The lines of a table.

    Args:
        header: above the columns.
        rows: cells, as they are to stand there.
        words: places of the columns that hold words, which begin at the left; numbers end at the right.

    >>> table_lines(["K", "method"], [["1", "PANet"]], words={1})
    ['| K | method |', '|---:|:---|', '| 1 | PANet |']
    """
    rule = "|".join(":---" if place in words else "---:" for place in range(len(header)))
    return [_line(header), f"|{rule}|", *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
