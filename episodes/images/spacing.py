"""Millimetres per pixel: how they are written, and which of them no breast ultrasound has."""

import re
from collections.abc import Sequence
from math import isfinite

from episodes.errors import DatasetError

Spacing = tuple[float, float]  # millimetres from one pixel to the next: (row, column)

# A picture of 300 to 1,000 pixels shows 20 to 80 mm of a breast; copies may be a few times smaller.
LEAST, MOST = 0.01, 1.0
# What a value outside may be instead, and how many millimetres that is.
_MISTAKEN = (("centimetres", 10), ("metres", 1_000), ("micrometres", 0.001))


def parse_spacing(text: str, origin: str) -> Spacing:
    """Read millimetres per pixel: one number, or rows and columns as `0.1x0.12`; a decimal comma counts as a point.

    Raises:
        DatasetError: if it is no such size; `origin` says where it stands.

    >>> parse_spacing("0.1", "--spacing"), parse_spacing("0,1 x 0,12", "--spacing")
    ((0.1, 0.1), (0.1, 0.12))
    """
    try:
        numbers = [float(number.replace(",", ".")) for number in re.split(r"\s*[x\u00d7]\s*|\s+", text.strip())]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(isfinite(number) and number > 0 for number in numbers):
        raise DatasetError(f"{origin}: {text!r} is no size in millimetres; write such as 0.1 or 0.1x0.12")
    return numbers[0], numbers[-1]


def spacing_doubt(spacing: Spacing) -> str:
    """Say why a size cannot be that of a breast ultrasound's pixel, and which unit is likely; nothing where it can.

    >>> spacing_doubt((0.007, 0.007))
    '0.007 mm per pixel is not within 0.01 to 1: perhaps centimetres, that is 0.07 mm'
    >>> spacing_doubt((70, 70)), spacing_doubt((0.01, 1))
    ('70 mm per pixel is not within 0.01 to 1: perhaps micrometres, that is 0.07 mm', '')
    """
    if _can_be(spacing):
        return ""
    meant = ((unit, [side * size for side in spacing]) for unit, size in _MISTAKEN)
    likely = (f": perhaps {unit}, that is {_text(sides)} mm" for unit, sides in meant if _can_be(sides))
    return f"{_text(spacing)} mm per pixel is not within {LEAST:g} to {MOST:g}{next(likely, '')}"


def _can_be(sides: Sequence[float]) -> bool:
    return all(LEAST <= side <= MOST for side in sides)


def _text(sides: Sequence[float]) -> str:
    return " x ".join(dict.fromkeys(f"{side:.4g}" for side in sides))
