"""Rows of values with their intervals, one below the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from episodes.scoring.statistics import Interval
from fewshot.plots.style import DASHES, GRID, INK, MUTED, PAPER, SERIES, WIDTH, Page, blank, shortened
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


# Inches.
MARGIN, TEXT, FOOT, GAP = 0.1, 0.2, 0.5, 0.1
NAMES = 1.72


@dataclass(frozen=True, slots=True)
class Rung:
    """One row.

    Attributes:
        name: at the left.
        note: at the right, numbers.
        tall: height of what is drawn, in inches.
        heading: whether nothing is drawn, since the name stands for the rungs that follow.
    """

    name: str
    note: str = ""
    tall: float = TEXT
    heading: bool = False


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs laid out on a page.

    Attributes:
        page: to draw on.
        axes: over all rungs; y in inches from the top.
        heights: y of each rung's middle line, where its marks go.
    """

    page: Page
    axes: Axes
    heights: Sequence[float]


def lay_out(
    rungs: Sequence[Rung],
    xlabel: str,
    limits: tuple[float, float],
    *,
    key: str = "",
    note_key: str = "",
    above: bool = False,
    names: float = NAMES,
    notes: float = 0.55,
) -> Ladder:
    """Write names and notes, and give the axes to draw on.

    Args:
        rungs: from top to bottom.
        xlabel: under the axis.
        limits: of the axis.
        key: in grey above the first rung.
        note_key: likewise, above the notes.
        above: whether names stand above their marks, which leaves these more room, or beside them.
        names: room for names beside their marks, in inches.
        notes: room for notes at the right, in inches.
    """
    top = MARGIN + (TEXT + 0.04 if key else 0)
    line = TEXT if above else 0.0
    left = MARGIN + 0.06 if above else MARGIN + names
    total = sum(rung.tall + (0 if rung.heading else line) + _air(place, rung) for place, rung in enumerate(rungs)) + GAP
    page = blank(top + total + FOOT)
    axes = _axes(page, (left, top, WIDTH - left - notes - MARGIN - GAP, total), xlabel, limits)
    if key:
        page.text(MARGIN, MARGIN + TEXT / 2, key, color=MUTED, fontsize=8.5)
        page.text(WIDTH - MARGIN, MARGIN + TEXT / 2, note_key, ha="right", color=MUTED, fontsize=8.5)
    heights, y = [], 0.0
    for place, rung in enumerate(rungs):
        y += _air(place, rung)
        middle = y + rung.tall / 2 + (0 if rung.heading else line)
        room = WIDTH - 2 * MARGIN if above or rung.heading else names - GAP
        _write(page, rung, top + y + TEXT / 2 if above else top + middle, top + middle, room)
        heights.append(middle)
        y += rung.tall + (0 if rung.heading else line)
    return Ladder(page, axes, heights)


def _air(place: int, rung: Rung) -> float:
    """Room above a rung: more where a heading begins a new group."""
    return GAP * (1.2 if rung.heading and place else 0.4)


def _axes(page: Page, box: tuple[float, float, float, float], xlabel: str, limits: tuple[float, float]) -> Axes:
    axes = page.axes(*box)
    axes.set(xlim=limits, ylim=(box[3], 0), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(5 if box[2] > 3 else 4, steps=[1, 2, 2.5, 5, 10]))
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.tick_params(length=0, pad=4, labelsize=9)
    axes.set_xlabel(xlabel, fontsize=9)
    width = axes.xaxis.label.get_window_extent().width / page.figure.dpi
    if width > box[2]:  # a long label ends with the axis, and begins before it
        axes.xaxis.set_label_coords(1, -0.3 / box[3])
        axes.xaxis.label.set(ha="right", va="top")
        shortened(axes.xaxis.label, box[0] + box[2] - MARGIN)
    return axes


def _write(page: Page, rung: Rung, name_top: float, note_top: float, room: float) -> None:
    backed = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # the grid does not run through letters
    weight = "bold" if rung.heading else "normal"
    name = page.text(MARGIN, name_top, rung.name, ha="left", bbox=backed, weight=weight, color=INK, fontsize=9)
    shortened(name, room)
    page.text(WIDTH - MARGIN, note_top, rung.note, ha="right", color=MUTED, fontsize=9)


def around(values: Iterable[float]) -> tuple[float, float]:
    """Limits of an axis that shows all values, with some air, unknown ones left out.

    >>> around([0.25, 0.75, float("nan")])
    (0.22, 0.78)
    """
    known = [value for value in values if not isnan(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    air = max(0.03, 0.06 * (high - low))
    return low - air, high + air


def whisker(axes: Axes, y: float, interval: Interval, look: Look, *, hollow: bool = False) -> None:
    """A mark at the estimate and a line over the interval; an arrow at the edge where the estimate lies beyond it.

    Nothing is drawn where the estimate is unknown.
    """
    low, high = axes.get_xlim()
    if isnan(interval.estimate):
        return
    if not low <= interval.estimate <= high:
        left = interval.estimate < low
        axes.plot(
            [low if left else high], [y], marker="<" if left else ">", markersize=7, color=look.colour, clip_on=False
        )
        return
    axes.plot([interval.low, interval.high], [y, y], color=look.colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot(
        [interval.estimate],
        [y],
        marker=look.marker,
        markersize=8 if look.marker == "*" else 6.5,
        color=look.colour,
        markerfacecolor=PAPER if hollow else look.colour,
        markeredgewidth=1.4,
        linestyle="none",
        clip_on=False,
    )


def bar(axes: Axes, y: float, value: float, tall: float, look: Look) -> None:
    """A bar from zero, on a pale track as long as the axis."""
    low, high = axes.get_xlim()
    axes.add_patch(Rectangle((low, y - tall / 2), high - low, tall, facecolor=GRID, edgecolor="none"))
    axes.add_patch(Rectangle((0, y - tall / 2), value, tall, facecolor=look.colour, edgecolor="none"))
