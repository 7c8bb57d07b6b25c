"""Numbers as text: a few styles, each for the places that need it, and quantities with their units."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from episodes.scoring.statistics import Interval  # which predictions, whose numbers these are too, do without


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """A way to write numbers."""

    digits: int = 3  # where a call asks for no others
    unknown: str = "-"  # stands for None and NaN
    minus: str = "-"  # before negative numbers
    percent: str = "%"  # behind a share in hundredths
    zero: str = ""  # `z` drops the minus of what rounds to zero; nothing keeps it

    def number(self, value: float | None, digits: int | None = None, *, sign: bool = False) -> str:
        """Return a number, with `sign` a plus before positive ones.

        >>> TYPESET.number(0.71234), PLAIN.number(-0.2, 2), PLAIN.number(math.nan), PROSE.number(-0.001)
        ('0.712', '-0.20', '-', '0.00')
        """
        if value is None or math.isnan(value):
            return self.unknown
        form = f"{'+' if sign else ''}{self.zero}.{self.digits if digits is None else digits}f"
        return f"{value:{form}}".replace("-", self.minus)

    def share(self, value: float) -> str:
        """Return a share in [0, 1] in hundredths.

        >>> TYPESET.share(0.347), PLAIN.share(0.347)
        ('35 %', '35%')
        """
        return self.unknown if math.isnan(value) else f"{100 * value:.0f}{self.percent}"

    def bounds(self, interval: "Interval", digits: int | None = None) -> str:
        """Return the bounds of an interval; nothing where there are none.

        >>> from episodes.scoring.statistics import Interval
        >>> TYPESET.bounds(Interval(0.7123, 0.66, 0.751)), PLAIN.bounds(Interval(0.7, math.nan, math.nan))
        ('[0.660, 0.751]', '')
        """
        if math.isnan(interval.low):
            return ""
        return f"[{self.number(interval.low, digits)}, {self.number(interval.high, digits)}]"

    def interval(self, interval: "Interval") -> str:
        """Return an estimate and its bounds, as far as they are known: one patient has a score without an interval.

        >>> from episodes.scoring.statistics import Interval
        >>> PROSE.interval(Interval(0.7, 0.661, 0.749)), PROSE.interval(Interval(0.7, math.nan, math.nan))
        ('0.70 [0.66, 0.75]', '0.70')
        """
        return f"{self.number(interval.estimate)} {self.bounds(interval)}".rstrip()


TYPESET = NumberStyle(minus="\N{MINUS SIGN}", percent=" %")
"""On the page and in figures: what a person reads, as a printer sets it."""

PLAIN = NumberStyle()
"""In Markdown, LaTeX and the terminal: ASCII, so that numbers can be copied into a program."""

PROSE = NumberStyle(2, unknown="nan", zero="z")
"""In sentences: two decimals say enough, and none says "-0.00 lower"."""

DEFINED = NumberStyle(unknown="undefined")
"""In an evaluation's tables: a score that is missing is so by its definition, not unknown."""

EXACT = NumberStyle(6, unknown="")
"""In `predictions.csv`: programs read it, and take an empty cell for a missing number."""


def full_interval(interval: "Interval", *, sign: bool = False) -> str:
    """Return an estimate and its bounds in the tables of a report, where every cell has all three numbers, NaN or not.

    >>> from episodes.scoring.statistics import Interval
    >>> full_interval(Interval(0.7123, 0.66, 0.751)), full_interval(Interval(0.1, -0.02, 0.2), sign=True)
    ('0.712 [0.660, 0.751]', '+0.100 [-0.020, +0.200]')
    """
    form = "+.3f" if sign else ".3f"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def p_value_text(p: float) -> str:
    """Return a p-value as people write it.

    >>> p_value_text(0.0321), p_value_text(0.0004), p_value_text(math.nan)
    ('0.032', '<0.001', 'unknown')
    """
    return "unknown" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it.

    >>> duration(0.0213), duration(38.5), duration(754), duration(9000), duration(0), duration(None)
    ('21 ms', '38.5 s', '13 min', '2.5 h', '0', '-')
    """
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds < 1:
        return "0" if seconds == 0 else f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def memory(n_bytes: float | None) -> str:
    """Return bytes in the unit that suits them.

    >>> memory(734_003_200), memory(3 * 2**30), memory(None)
    ('700 MiB', '3.0 GiB', '-')
    """
    if n_bytes is None:
        return "-"
    return f"{n_bytes / 2**20:.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:.1f} GiB"


def parameters(count: float | None) -> str:
    """Return a number of parameters.

    >>> parameters(11_300_000), parameters(5200), parameters(None)
    ('11.3 M', '5.2 k', '-')
    """
    if count is None:
        return "-"
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1e3 else f"{count:.0f}"


def annotated_images(count: int) -> str:
    """Return a number of annotated images in words.

    >>> annotated_images(0), annotated_images(1), annotated_images(5)
    ('no annotated image', '1 annotated image', '5 annotated images')
    """
    return counted(count, "annotated image") if count else "no annotated image"


def counted(count: int, noun: str) -> str:
    """Return a number of things.

    >>> counted(1, "patient"), counted(1234, "image")
    ('1 patient', '1234 images')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
