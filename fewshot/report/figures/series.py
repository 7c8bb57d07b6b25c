"""One look for each method, the same in every figure of a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fewshot.figures.style import DASHES
from fewshot.report.figures.theme import MUTED, SERIES
from fewshot.results.summary import Row

# Told apart by shape where colours look alike, in grey for instance; as many as have no common divisor with colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn: colour, marker and dashes, each enough to tell it apart."""

    colour: str
    marker: str
    dashes: Any = "solid"

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line."""
        return {"color": self.colour, "linestyle": self.dashes}


OTHERS = {"floor": Look(MUTED, "x", (0, (1, 2))), "oracle": Look(MUTED, "*", (0, (6, 2, 1, 2)))}


def looks_of(rows: Iterable[Row]) -> dict[str, Look]:
    """A look for each method, by name, in the order of their names, so that a new number changes no colour.

    Controls, floors and oracles are grey.
    """
    roles = {row.method: row.role for row in rows}
    methods = sorted(method for method, role in roles.items() if role == "method")
    looks = {
        method: Look(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
        for place, method in enumerate(methods)
    }
    return looks | {
        method: OTHERS.get(role, Look(MUTED, "o", (0, (2, 1)))) for method, role in roles.items() if role != "method"
    }


def images(count: int) -> str:
    """A number of annotated images in words.

    >>> images(0), images(1), images(5)
    ('no image', '1 image', '5 images')
    """
    return "no image" if count == 0 else "1 image" if count == 1 else f"{count} images"


def named(method: str, shot: int) -> str:
    """A row's name in a figure.

    >>> named("PANet", 5)
    'PANet · 5 images'
    """
    return f"{method} · {images(shot)}"
