"""Tables, and the numbers in them, in every format that is written."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from episodes.scoring.statistics import Interval

DASH, MINUS = "-", "\N{MINUS SIGN}"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number, its minus a real one; a dash where it is unknown.

    >>> number(0.71234), number(0.2, 2, sign=True), number(math.nan)
    ('0.712', '+0.20', '-')
    """
    if math.isnan(value):
        return DASH
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", MINUS)


def brackets(interval: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """The bounds of an interval; nothing where there are none.

    >>> brackets(Interval(0.7123, 0.66, 0.751)), brackets(Interval(0.7, math.nan, math.nan))
    ('[0.660, 0.751]', '')
    """
    if math.isnan(interval.low):
        return ""
    return f"[{number(interval.low, digits, sign=sign)}, {number(interval.high, digits, sign=sign)}]"


def percent(value: float) -> str:
    """A share.

    >>> percent(0.347), percent(math.nan)
    ('35 %', '-')
    """
    return DASH if math.isnan(value) else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it.

    >>> duration(0.0213), duration(38.5), duration(754), duration(9000), duration(0), duration(None)
    ('21 ms', '38.5 s', '13 min', '2.5 h', '0', '-')
    """
    if seconds is None or math.isnan(seconds):
        return DASH
    if seconds < 1:
        return "0" if seconds == 0 else f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def memory(n_bytes: float | None) -> str:
    """Bytes in the unit that suits them.

    >>> memory(734_003_200), memory(3 * 2**30), memory(None)
    ('700 MiB', '3.0 GiB', '-')
    """
    if n_bytes is None:
        return DASH
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"


def weights(count: float | None) -> str:
    """A number of parameters.

    >>> weights(11_300_000), weights(5200), weights(None)
    ('11.3 M', '5.2 k', '-')
    """
    if count is None:
        return DASH
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1e3 else f"{count:.0f}"


def annotated(shot: int) -> str:
    """How many annotated images there are.

    >>> annotated(0), annotated(1), annotated(5)
    ('no annotated image', '1 annotated image', '5 annotated images')
    """
    return f"{'no' if shot == 0 else shot} annotated image{'s' if shot > 1 else ''}"


def flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Facts within facts as a plain list.

    >>> list(flat({"python": "3.11", "packages": {"torch": "2.9"}, "gpu": None}))
    [('python', '3.11'), ('packages torch', '2.9'), ('gpu', '-')]
    """
    for name, value in facts.items():
        path = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, path)
        elif isinstance(value, list | tuple):
            yield path, ", ".join(map(str, value)) or DASH
        else:
            yield path, DASH if value is None else str(value)


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


def or_dash(value: float, form: str = ".3f") -> str:
    """A number, or a dash where it is unknown."""
    return "-" if isnan(value) else f"{value:{form}}"
