"""Figures of rows with intervals: differences, groups, controls, patients, normals."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fewshot.plots.ladder import Ladder, Look, Rung, around, bar, images, lay_out, named, whisker
from fewshot.plots.style import GRID, INK, MUTED, PAPER, Drawing, themed
from fewshot.report.breakdowns import shown_rows
from fewshot.report.content import Comparison, Share, TargetContent
from fewshot.report.sentences import p_text
from fewshot.results.summary import Controlled
from fewshot.results.tables import annotated, number, percent


def controls(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw a method's lesion Dice (filled) and that of its control (hollow), joined by a line.

    Returns:
        None where there is no control.
    """
    if not target.controls:
        return None
    dice = {(row.method, row.shot): row.dice.estimate for row in target.rows}
    found = [one.controlled for one in target.controls]
    ends = [[dice[one.method, one.shot], dice[one.control, one.shot]] for one in found]
    rungs = [Rung(_name(one), number(-one.difference.interval.estimate, sign=True)) for one in found]
    with themed():
        key = "filled: as it is; hollow: with wrong masks"
        limits = around(value for pair in ends for value in pair)
        ladder = lay_out(rungs, "lesion Dice", limits, key=key, above=True)
        for one, pair, y in zip(found, ends, ladder.heights, strict=True):
            look = looks[one.method]
            ladder.axes.plot(pair, [y, y], color=MUTED, linewidth=2.2, zorder=1)
            for x, face in zip(pair, (look.colour, PAPER), strict=True):
                ladder.axes.plot(
                    [x], [y], marker=look.marker, markersize=7, color=look.colour, markerfacecolor=face, clip_on=False
                )
    label = f"Lesion Dice with right and with wrong support masks on {target.target}"
    return Drawing("controls", target.target, label, ladder.page.figure)


def _name(one: Controlled) -> str:
    return f"{one.method} · {images(one.shot)}, masks {one.masks}"


CLEAR = 0.05
FAR = 0.2


def difference(target: TargetContent, looks: Mapping[str, Look]) -> Drawing:
    """Draw each row's lesion Dice minus that of the best, with its interval and corrected p-value.

    Marks are filled where the difference is clear (corrected p below 0.05), hollow where it may be chance. Rows far
    off are arrows at the edge; their numbers stand at the right.
    """
    best = target.answers[-1].best
    found = sorted(target.comparisons, key=lambda one: one.row.shot)
    rungs, places = _rungs(found)
    with themed():
        ladder = lay_out(
            rungs,
            f"lesion Dice minus {named(best.method, best.shot)}",
            _limits(found),
            key="filled: clear, hollow: may be chance",
            note_key="difference · p",
            notes=1.02,
        )
        ladder.axes.axvline(0, color=INK, linewidth=1)
        for one, place in zip(found, places, strict=True):
            hollow = not one.corrected_p < CLEAR
            whisker(ladder.axes, ladder.heights[place], one.difference.interval, looks[one.row.method], hollow=hollow)
    label = f"Lesion Dice of each row on {target.target} minus that of {best.method}, with intervals"
    return Drawing("difference", target.target, label, ladder.page.figure)


def _rungs(found: Sequence[Comparison]) -> tuple[list[Rung], list[int]]:
    """A heading for each number of annotated images, the rows below it, and where each row ended up."""
    rungs: list[Rung] = []
    places: list[int] = []
    for shot, group in groupby(found, key=lambda one: one.row.shot):
        rungs.append(Rung(f"with {annotated(shot)}", heading=True))
        for one in group:
            places.append(len(rungs))
            note = f"{number(one.difference.interval.estimate, sign=True)} · {p_text(one.corrected_p)}"
            rungs.append(Rung(one.row.method, note))
    return rungs, places


def _limits(found: Sequence[Comparison]) -> tuple[float, float]:
    """Of the axis: zero and all intervals, but no farther than `FAR`: rows close to the best are hard to tell apart."""
    spans = [one.difference.interval for one in found]
    known = [bound for one in spans for bound in (one.estimate, one.low, one.high) if not math.isnan(bound)]
    low, high = max(min([0.0, *known]), -FAR), min(max([0.0, *known]), FAR)
    air = max(0.01, 0.05 * (high - low))
    return low - air, high + air


MOST = 6


def groups(target: TargetContent, looks: Mapping[str, Look], by: Literal["sizes", "labels"]) -> Drawing | None:
    """Draw lesion Dice with intervals in each group of queries, of the first rows of the content.

    Returns:
        None where there is no group.
    """
    shares = target.sizes if by == "sizes" else target.labels
    names = list(dict.fromkeys(share.group for share in shares))
    rows = list(dict.fromkeys((share.row.method, share.row.shot) for share in shares))[:MOST]
    kept = sorted(
        (share for share in shares if (share.row.method, share.row.shot) in rows),
        key=lambda share: (names.index(share.group), rows.index((share.row.method, share.row.shot))),
    )
    if not kept:
        return None
    with themed():
        ladder, places = _lay_out(kept, target.size_edges if by == "sizes" else ())
        for share, place in places:
            whisker(ladder.axes, ladder.heights[place], share.dice, looks[share.row.method])
    label = f"Lesion Dice by {'lesion size' if by == 'sizes' else 'kind of lesion'} on {target.target}"
    return Drawing(by, target.target, label, ladder.page.figure)


def _lay_out(shares: Sequence[Share], edges: Sequence[float]) -> tuple[Ladder, list[tuple[Share, int]]]:
    rungs: list[Rung] = []
    places: list[tuple[Share, int]] = []
    for position, (group, own) in enumerate(groupby(shares, key=lambda share: share.group)):
        members = list(own)
        rungs.append(Rung(f"{group}{_between(position, edges)}", f"n = {members[0].n_images}", heading=True))
        for share in members:
            places.append((share, len(rungs)))
            rungs.append(Rung(f"{share.row.method} · {share.row.shot}", f"{share.dice.estimate:.3f}"))
    key = "after each name: annotated images"
    limits = around(bound for one in shares for bound in (one.dice.low, one.dice.estimate, one.dice.high))
    return lay_out(rungs, "lesion Dice", limits, key=key, note_key="Dice", names=1.95), places


def _between(place: int, edges: Sequence[float]) -> str:
    """What share of the image a lesion of this tercile covers.

    >>> [_between(place, (0.02, 0.06)) for place in range(3)]
    [': below 2.0 % of the image', ': 2.0 to 6.0 % of the image', ': above 6.0 % of the image']
    """
    if not 0 <= place <= len(edges) or not edges:
        return ""
    if place == 0:
        return f": below {edges[0]:.1%} of the image".replace("%", " %")
    if place == len(edges):
        return f": above {edges[-1]:.1%} of the image".replace("%", " %")
    return f": {100 * edges[place - 1]:.1f} to {100 * edges[place]:.1f} % of the image"


TALL = 0.1


def normals(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw the share of normal images with a false lesion for every row but floors and controls.

    Returns:
        None where there is no normal image.
    """
    rows = [
        row
        for row in target.rows
        if row.role in ("method", "oracle") and not math.isnan(row.scores.get("false_positive", math.nan))
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: (row.shot, row.scores["false_positive"]))
    rungs: list[Rung] = []
    places: list[int] = []
    for shot, group in groupby(rows, key=lambda row: row.shot):
        rungs.append(Rung(f"with {annotated(shot)}", heading=True))
        for row in group:
            places.append(len(rungs))
            rungs.append(Rung(row.method, percent(row.scores["false_positive"])))
    with themed():
        ladder = lay_out(rungs, f"of {target.n_normal} images without a lesion", (0, 1))
        ladder.axes.xaxis.set_major_formatter(lambda value, _: percent(value))
        for row, place in zip(rows, places, strict=True):
            bar(ladder.axes, ladder.heights[place], row.scores["false_positive"], TALL, looks[row.method])
    label = f"Share of normal images of {target.target} on which each row sees a lesion"
    return Drawing("normals", target.target, label, ladder.page.figure)


STRIP = 0.4
GOLDEN_RATIO = (5**0.5 - 1) / 2


def patients(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw one dot per patient for the best rows of every number of shots, over a box of the middle half of patients.

    Returns:
        None where there is no patient.
    """
    keys = [(row.method, row.shot) for row in shown_rows(target.rows)]
    chosen = [(key, target.patients[key]) for key in keys if len(target.patients.get(key, ()))]
    if not chosen:
        return None
    rungs = [Rung(named(*row), f"median {np.median(values):.2f}", STRIP) for row, values in chosen]
    with themed():
        ladder = lay_out(rungs, "mean lesion Dice of a patient", (-0.01, 1.01), above=True, notes=0.9)
        for ((method, _), values), y in zip(chosen, ladder.heights, strict=True):
            _draw_strip(ladder.axes, y, values, looks[method])
    return Drawing("patients", target.target, f"Lesion Dice per patient on {target.target}", ladder.page.figure)


def _draw_strip(axes: Axes, y: float, values: NDArray[np.float64], look: Look) -> None:
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    box = Rectangle((first, y - STRIP / 2), third - first, STRIP, facecolor=GRID, edgecolor="none")
    axes.add_patch(box)
    axes.plot([median, median], [y - STRIP / 2, y + STRIP / 2], color=INK, linewidth=1.8, solid_capstyle="butt")
    heights = y + STRIP * 0.8 * (_aside(len(values)) - 0.5)
    axes.plot(
        np.sort(values).tolist(),
        heights.tolist(),
        marker=look.marker,
        markersize=3.6,
        color=look.colour,
        linestyle="none",
        alpha=0.75,
        markeredgewidth=0,
        clip_on=False,
    )


def _aside(count: int) -> NDArray[np.float64]:
    """Places in [0, 1) that are far from each other for neighbours, the same every time."""
    return np.arange(1, count + 1, dtype=np.float64) * GOLDEN_RATIO % 1
