"""Forest plots, rows of values with their intervals: differences, groups, controls, patients, normal images."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from episodes.scoring.statistics import Interval
from fewshot.plots.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    THEMED,
    WIDTH,
    Drawing,
    MethodStyle,
    Page,
    new_page,
    shorten,
    text_width,
)
from fewshot.report.content import TargetContent, shown_rows
from fewshot.results.comparison import Comparison
from fewshot.results.numbers import TYPESET, annotated_images, p_value_text


def images(count: int) -> str:
    """Say a number of annotated images in short.

    >>> images(0), images(1), images(5)
    ('no image', '1 image', '5 images')
    """
    return annotated_images(count).replace("annotated ", "")


def named(method: str, shot: int) -> str:
    """Name a row in a figure.

    >>> named("PANet", 5)
    'PANet · 5 images'
    """
    return f"{method} · {images(shot)}"


# Inches.
MARGIN, TEXT, FOOT, GAP = 0.1, 0.2, 0.5, 0.1
NAMES, BAR, STRIP = 1.72, 0.1, 0.4
GOLDEN_RATIO = (5**0.5 - 1) / 2

FAR = 0.2  # difference of lesion Dice
MOST_GROUPED = 6  # rows


@dataclass(frozen=True, slots=True)
class PlotRow:
    """One row of a forest plot."""

    name: str  # at the left
    note: str = ""  # at the right, numbers
    tall: float = TEXT  # height of what is drawn, in inches
    heading: bool = False  # nothing is drawn: the name stands for the rows that follow


@dataclass(frozen=True, slots=True)
class ForestPlot:
    """Rows laid out on a page."""

    page: Page
    axes: Axes  # over all rows; y in inches from the top
    heights: Sequence[float]  # y of the middle line of each row that is no heading, where its marks go


@contextmanager
def forest_plot(
    rows: Sequence[PlotRow],
    xlabel: str,
    limits: tuple[float, float],
    *,
    key: str = "",
    note_key: str = "",
    above: bool = False,
    names: float = NAMES,
    notes: float = 0.55,
) -> Iterator[ForestPlot]:
    """Write names and notes of rows, from top to bottom, and give the axes to draw on inside the block.

    The keys stand in grey above the first row and above the notes. Room for names beside their marks, and for notes at
    the right, is in inches; names that stand `above` their marks have more.
    """
    top = MARGIN + (TEXT + 0.04 if key else 0)
    left = MARGIN + 0.06 if above else MARGIN + names
    y, tops, middles = 0.0, [], []  # in inches below the top of the axes
    for place, row in enumerate(rows):
        air = GAP * (1.2 if row.heading and place else 0.4)  # more where a heading begins a new group
        line = TEXT if above and not row.heading else 0.0
        tops.append(y + air)
        middles.append(y + air + row.tall / 2 + line)
        y = y + air + (row.tall + line)
    total = y + GAP
    with new_page(WIDTH, top + total + FOOT, THEMED) as page:
        axes = _axes(page, (left, top, WIDTH - left - notes - MARGIN - GAP, total), xlabel, limits)
        if key:
            page.text(MARGIN, MARGIN + TEXT / 2, key, color=MUTED, fontsize=8.5)
            page.text(WIDTH - MARGIN, MARGIN + TEXT / 2, note_key, ha="right", color=MUTED, fontsize=8.5)
        for row, row_top, middle in zip(rows, tops, middles, strict=True):
            room = WIDTH - 2 * MARGIN if above or row.heading else names - GAP
            _write(page, row, top + row_top + TEXT / 2 if above else top + middle, top + middle, room)
        yield ForestPlot(page, axes, [middle for row, middle in zip(rows, middles, strict=True) if not row.heading])


def _axes(page: Page, box: tuple[float, float, float, float], xlabel: str, limits: tuple[float, float]) -> Axes:
    axes = page.axes(*box)
    axes.set(xlim=limits, ylim=(box[3], 0), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(5 if box[2] > 3 else 4, steps=[1, 2, 2.5, 5, 10]))
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.tick_params(length=0, pad=4, labelsize=9)
    axes.set_xlabel(xlabel, fontsize=9)
    if text_width(axes.xaxis.label) > box[2]:  # a long label ends with the axis, and begins before it
        axes.xaxis.set_label_coords(1, -0.3 / box[3])
        axes.xaxis.label.set(ha="right", va="top")
        shorten(axes.xaxis.label, box[0] + box[2] - MARGIN)
    return axes


def _write(page: Page, row: PlotRow, name_top: float, note_top: float, room: float) -> None:
    backed = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}  # the grid does not run through letters
    weight = "bold" if row.heading else "normal"
    name = page.text(MARGIN, name_top, row.name, ha="left", bbox=backed, weight=weight, color=INK, fontsize=9)
    shorten(name, room)
    page.text(WIDTH - MARGIN, note_top, row.note, ha="right", color=MUTED, fontsize=9)


def _with_headings(rows: Iterable[tuple[PlotRow, PlotRow]]) -> list[PlotRow]:
    """Put each heading once, above all rows that follow each other with it."""
    found: list[PlotRow] = []
    for heading, group in groupby(rows, key=itemgetter(0)):
        found += [heading, *(row for _, row in group)]
    return found


def _shot_heading(shot: int) -> PlotRow:
    return PlotRow(f"with {annotated_images(shot)}", heading=True)


def around(values: Iterable[float]) -> tuple[float, float]:
    """Choose limits of an axis that shows all values, with some air, unknown ones left out.

    >>> around([0.25, 0.75, float("nan")])
    (0.22, 0.78)
    """
    known = [value for value in values if not math.isnan(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    air = max(0.03, 0.06 * (high - low))
    return low - air, high + air


def whisker(axes: Axes, y: float, interval: Interval, style: MethodStyle, *, hollow: bool = False) -> None:
    """Draw a mark at the estimate and a line over the interval; an arrow at the edge where the estimate lies beyond it.

    Nothing is drawn where the estimate is unknown.
    """
    low, high = axes.get_xlim()
    if math.isnan(interval.estimate):
        return
    if not low <= interval.estimate <= high:
        edge, arrow = (low, "<") if interval.estimate < low else (high, ">")
        axes.plot([edge], [y], marker=arrow, markersize=7, color=style.colour, clip_on=False)
        return
    axes.plot([interval.low, interval.high], [y, y], color=style.colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot(
        [interval.estimate],
        [y],
        marker=style.marker,
        markersize=8 if style.marker == "*" else 6.5,
        color=style.colour,
        markerfacecolor=PAPER if hollow else style.colour,
        markeredgewidth=1.4,
        linestyle="none",
        clip_on=False,
    )


def _box(axes: Axes, y: float, tall: float, ends: tuple[float, float], colour: str) -> None:
    low, high = ends
    axes.add_patch(Rectangle((low, y - tall / 2), high - low, tall, facecolor=colour, edgecolor="none"))


def controls(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing | None:
    """Draw a method's lesion Dice (filled) and its control's (hollow), joined by a line; None without controls."""
    if not target.controls:
        return None
    found = target.controls
    ends = [[top := one.row.dice.estimate, top - one.interval.estimate] for one in found]
    rows = [
        PlotRow(
            f"{named(one.row.method, one.row.shot)}, masks {one.other.control}",
            TYPESET.number(-one.interval.estimate, sign=True),
        )
        for one in found
    ]
    limits = around(value for pair in ends for value in pair)
    key = "filled: as it is; hollow: with wrong masks"
    with forest_plot(rows, "lesion Dice", limits, key=key, above=True) as plot:
        for one, pair, y in zip(found, ends, plot.heights, strict=True):
            style = styles[one.row.method]
            plot.axes.plot(pair, [y, y], color=MUTED, linewidth=2.2, zorder=1)
            for x, face in zip(pair, (style.colour, PAPER), strict=True):
                plot.axes.plot(
                    [x], [y], marker=style.marker, markersize=7, color=style.colour, markerfacecolor=face, clip_on=False
                )
    label = f"Lesion Dice with right and with wrong support masks on {target.target}"
    return Drawing("controls", target.target, label, plot.page)


def difference(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing:
    """Draw each row's lesion Dice minus that of the best, with its interval and corrected p-value.

    Marks are filled where the difference is clear (corrected p below 0.05), hollow where it may be chance. Rows far
    off are arrows at the edge; their numbers stand at the right.
    """
    best = target.answers[-1].best
    found = sorted(target.comparisons, key=lambda one: one.row.shot)
    rows = _with_headings((_shot_heading(one.row.shot), PlotRow(one.row.method, _note(one))) for one in found)
    with forest_plot(
        rows,
        f"lesion Dice minus {named(best.method, best.shot)}",
        _limits(found),
        key="filled: clear, hollow: may be chance",
        note_key="difference · p",
        notes=1.02,
    ) as plot:
        plot.axes.axvline(0, color=INK, linewidth=1)
        for one, y in zip(found, plot.heights, strict=True):
            hollow = one.verdict not in ("higher", "lower")
            whisker(plot.axes, y, one.difference.interval, styles[one.row.method], hollow=hollow)
    label = f"Lesion Dice of each row on {target.target} minus that of {best.method}, with intervals"
    return Drawing("difference", target.target, label, plot.page)


def _note(one: Comparison) -> str:
    return f"{TYPESET.number(one.difference.interval.estimate, sign=True)} · {p_value_text(one.corrected_p)}"


def _limits(found: Sequence[Comparison]) -> tuple[float, float]:
    """Choose an axis of zero and all intervals, but no farther than `FAR`: rows close to the best would look alike."""
    spans = [one.difference.interval for one in found]
    known = [bound for one in spans for bound in (one.estimate, one.low, one.high) if not math.isnan(bound)]
    low, high = max(min([0.0, *known]), -FAR), min(max([0.0, *known]), FAR)
    air = max(0.01, 0.05 * (high - low))
    return low - air, high + air


def groups(target: TargetContent, styles: Mapping[str, MethodStyle], by: Literal["sizes", "labels"]) -> Drawing | None:
    """Draw lesion Dice with intervals in each group of queries, of the content's first rows; None without groups."""
    shares = target.sizes if by == "sizes" else target.labels
    names = list(dict.fromkeys(share.group for share in shares))
    keys = list(dict.fromkeys(share.row.key for share in shares))[:MOST_GROUPED]
    kept = [share for share in shares if share.row.key in keys]
    kept.sort(key=lambda share: (names.index(share.group), keys.index(share.row.key)))
    if not kept:
        return None
    counts = {share.group: share.n_images for share in reversed(shares)}
    edges = target.size_edges if by == "sizes" else ()
    headings = {
        name: PlotRow(f"{name}{_between(place, edges)}", f"n = {counts[name]}", heading=True)
        for place, name in enumerate(names)
    }
    rows = _with_headings(
        (headings[share.group], PlotRow(f"{share.row.method} · {share.row.shot}", f"{share.dice.estimate:.3f}"))
        for share in kept
    )
    limits = around(bound for one in kept for bound in (one.dice.low, one.dice.estimate, one.dice.high))
    key = "after each name: annotated images"
    with forest_plot(rows, "lesion Dice", limits, key=key, note_key="Dice", names=1.95) as plot:
        for share, y in zip(kept, plot.heights, strict=True):
            whisker(plot.axes, y, share.dice, styles[share.row.method])
    label = f"Lesion Dice by {'lesion size' if by == 'sizes' else 'kind of lesion'} on {target.target}"
    return Drawing(by, target.target, label, plot.page)


def _between(place: int, edges: Sequence[float]) -> str:
    """Say what share of the image a lesion of this tercile covers; nothing without edges.

    >>> [_between(place, (0.02, 0.06)) for place in range(3)]
    [': below 2.0 % of the image', ': 2.0 to 6.0 % of the image', ': above 6.0 % of the image']
    """
    if not 0 <= place <= len(edges) or not edges:
        return ""
    if place == 0:
        return f": below {100 * edges[0]:.1f} % of the image"
    if place == len(edges):
        return f": above {100 * edges[-1]:.1f} % of the image"
    return f": {100 * edges[place - 1]:.1f} to {100 * edges[place]:.1f} % of the image"


def normals(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing | None:
    """Draw the share of normal images with a false lesion, as bars, for every row but floors and controls.

    It is None where there is no normal image.
    """
    shares = [
        (row, share)
        for row in target.rows
        if row.role in ("method", "oracle") and not math.isnan(share := row.scores.get("false_positive", math.nan))
    ]
    if not shares:
        return None
    shares.sort(key=lambda one: (one[0].shot, one[1]))
    rows = _with_headings((_shot_heading(row.shot), PlotRow(row.method, TYPESET.share(share))) for row, share in shares)
    with forest_plot(rows, f"of {target.n_normal} images without a lesion", (0, 1)) as plot:
        plot.axes.xaxis.set_major_formatter(lambda value, _: TYPESET.share(value))
        for (row, share), y in zip(shares, plot.heights, strict=True):
            _box(plot.axes, y, BAR, (0, 1), GRID)
            _box(plot.axes, y, BAR, (0, share), styles[row.method].colour)
    label = f"Share of normal images of {target.target} on which each row sees a lesion"
    return Drawing("normals", target.target, label, plot.page)


def patients(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing | None:
    """Draw one dot per patient for the best rows of every number of shots, over a box of the middle half of patients.

    It is None where there is no patient.
    """
    keys = [(row.method, row.shot) for row in shown_rows(target.rows)]
    chosen = [(key, target.patients[key]) for key in keys if len(target.patients.get(key, ()))]
    if not chosen:
        return None
    rows = [PlotRow(named(*key), f"median {np.median(values):.2f}", STRIP) for key, values in chosen]
    with forest_plot(rows, "mean lesion Dice of a patient", (-0.01, 1.01), above=True, notes=0.9) as plot:
        for ((method, _), values), y in zip(chosen, plot.heights, strict=True):
            _draw_strip(plot.axes, y, values, styles[method])
    return Drawing("patients", target.target, f"Lesion Dice per patient on {target.target}", plot.page)


def _draw_strip(axes: Axes, y: float, values: NDArray[np.float64], style: MethodStyle) -> None:
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    _box(axes, y, STRIP, (first, third), GRID)
    axes.plot([median, median], [y - STRIP / 2, y + STRIP / 2], color=INK, linewidth=1.8, solid_capstyle="butt")
    # Multiples of the golden ratio: places in [0, 1) that are far from each other for neighbours, the same every time.
    aside = np.arange(1, len(values) + 1, dtype=np.float64) * GOLDEN_RATIO % 1
    axes.plot(
        np.sort(values),
        y + STRIP * 0.8 * (aside - 0.5),
        marker=style.marker,
        markersize=3.6,
        color=style.colour,
        linestyle="none",
        alpha=0.75,
        markeredgewidth=0,
        clip_on=False,
    )
