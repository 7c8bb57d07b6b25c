"""Every figure of a report, drawn once: curves over annotated images, calibration, and the forest plots."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from sklearn.isotonic import isotonic_regression

from episodes.io.files import write_bytes, write_text
from episodes.names import numbered
from episodes.scoring.curves import Reliability
from fewshot.plots.curves import draw_reliability
from fewshot.plots.style import INK, MUTED, PAPER, THEMED, WIDTH, Drawing, MethodStyle, method_styles, new_page, shorten
from fewshot.report.content import ReportContent, TargetContent, shown_rows
from fewshot.report.forest_plots import controls, difference, groups, images, normals, patients
from fewshot.results.summary import MethodResult

COLUMNS = 3
# Inches.
PANEL_LEFT, SIDE, GAP, PANEL_TOP, PANEL_FOOT = 0.58, 1.2, 0.14, 0.5, 0.5


def calibration(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing | None:
    """Draw the observed share of lesion pixels over the predicted probability, a small plot for each of the best rows.

    It is None where no method gives probabilities.
    """
    keys = [(row.method, row.shot) for row in shown_rows(target.rows)]
    chosen = [(key, target.reliability[key]) for key in keys if key in target.reliability]
    if not chosen:
        return None
    n_lines = -(-len(chosen) // COLUMNS)
    with new_page(WIDTH, n_lines * (PANEL_TOP + SIDE) + PANEL_FOOT, THEMED) as page:
        for place, ((method, shot), found) in enumerate(chosen):
            line, column = divmod(place, COLUMNS)
            left, top = PANEL_LEFT + column * (SIDE + GAP), line * (PANEL_TOP + SIDE) + PANEL_TOP
            axes = page.axes(left, top, SIDE, SIDE)
            _draw_panel(axes, found, styles[method])
            axes.tick_params(length=0, labelleft=column == 0, labelbottom=place + COLUMNS >= len(chosen))
            shorten(page.text(left, top - 0.33, method, ha="left", color=INK, fontsize=9), SIDE)
            page.text(left, top - 0.14, images(shot), ha="left", color=MUTED, fontsize=8.5)
        page.text(
            PANEL_LEFT, n_lines * (PANEL_TOP + SIDE) + 0.36, "predicted probability of lesion", ha="left", color=MUTED
        )
        side = page.text(0.14, PANEL_TOP + SIDE / 2, "observed share", ha="center", color=MUTED, rotation=90)
        side.set_rotation_mode("default")
    return Drawing("reliability", target.target, f"Calibration on {target.target}", page)


def _draw_panel(axes: Axes, found: Reliability, style: MethodStyle) -> None:
    draw_reliability(axes, found, MUTED, marker=style.marker, markersize=4, linewidth=1.4, color=style.colour)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")  # the ends of neighbours' axes keep apart
    last.set_horizontalalignment("right")
    axes.spines[:].set_visible(False)
    axes.text(0.05, 0.95, f"ECE {found.expected_calibration_error:.3f}", va="top", fontsize=8.5, color=MUTED)


# Inches.
LEFT, TOP, NAMES, FOOT, LINE = 0.6, 0.14, 1.98, 0.52, 0.18
LEAST_TALL = 3.1
# Of lesion Dice: methods that far below the best are no choice, and would press those that are into one line.
REACH = 0.3
NOTE_LETTERS = 36  # of a line of the note beneath the curves


def shot_curve(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Drawing:
    """Draw each method's lesion Dice with its interval at every number of annotated images, on the same lesion images.

    A method that is there without annotated images only is a line across: it needs none, whatever there is. What lies
    far below the best is named at the foot instead of stretching the axis. Controls have a figure of their own.
    """
    rows = [row for row in target.rows if row.role != "control" and row.n_shared]
    low, high = _limits(rows)
    beneath = {row.method for row in rows if row.shared.estimate < low}
    curves = _curves([row for row in rows if row.method not in beneath])
    shots = sorted({row.shot for row in target.rows})
    tall = max(LEAST_TALL, LINE * (len(curves) + 1))
    with new_page(WIDTH, TOP + tall + FOOT, THEMED) as page:
        axes = page.axes(LEFT, TOP, WIDTH - LEFT - NAMES, tall)
        axes.set(xlim=(-0.3, len(shots) - 0.7), ylim=(low, high), xlabel="annotated images")
        axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
        axes.set_ylabel("lesion Dice", labelpad=3)
        axes.grid(visible=True, axis="y")
        axes.tick_params(length=0, pad=4)
        axes.spines[["left", "top", "right"]].set_visible(False)
        for place, (method, own) in enumerate(curves.items()):
            aside = (place - (len(curves) - 1) / 2) * 0.3 / len(curves)
            _draw_curve(axes, own, styles[method], shots, aside)
        names = page.axes(WIDTH - NAMES, TOP, NAMES, tall)
        names.set(xlim=(0, NAMES), ylim=(low, high))
        names.set_axis_off()
        _name_curves(names, curves, styles, LINE * (high - low) / tall)
        _note_beneath(axes, [row for row in rows if row.method in beneath], low)
    return Drawing("shot-curve", target.target, f"Lesion Dice over annotated images on {target.target}", page)


def _limits(rows: Sequence[MethodResult]) -> tuple[float, float]:
    """Choose an axis of all intervals of methods that come near the best, of whatever is better, and what is near."""
    methods = [row for row in rows if row.role != "floor"] or list(rows)
    best = max((row.shared.estimate for row in methods if row.shared.estimate == row.shared.estimate), default=1.0)
    near_best = {row.method for row in methods if row.shared.estimate >= best - REACH}
    judged = [row.shared for row in rows if row.method in near_best or row.shared.estimate > best]
    known = [bound for dice in judged for bound in (dice.estimate, dice.low, dice.high) if bound == bound]
    low, high = min(known, default=0.0), max(known, default=1.0)
    air = max(0.05, 0.1 * (high - low))
    near = [row.shared.estimate for row in rows if low - 2 * air < row.shared.estimate < low]
    return max(-0.02, min([low, *near]) - air), min(1.02, high + air / 2)


def _curves(rows: Sequence[MethodResult]) -> dict[str, list[MethodResult]]:
    """Group rows by method, the number of annotated images rising; the highest curve first."""
    methods: dict[str, list[MethodResult]] = {}
    for row in sorted(rows, key=lambda row: row.shot):
        methods.setdefault(row.method, []).append(row)
    return dict(sorted(methods.items(), key=lambda item: -item[1][-1].shared.estimate))


def _draw_curve(
    axes: Axes, rows: Sequence[MethodResult], style: MethodStyle, shots: Sequence[int], aside: float
) -> None:
    places = [shots.index(row.shot) + aside for row in rows]
    values = [row.shared.estimate for row in rows]
    if [row.shot for row in rows] == [0] and len(shots) > 1:
        axes.plot([places[0], len(shots) - 0.7], values * 2, linewidth=1.2, **style.line)
    else:
        axes.plot(places, values, linewidth=1.8, **style.line)
    for place, row in zip(places, rows, strict=True):
        axes.plot([place, place], [row.shared.low, row.shared.high], color=style.colour, linewidth=1.3)
    axes.plot(places, values, color=style.colour, marker=style.marker, markersize=6, linestyle="none", clip_on=False)


def _name_curves(
    axes: Axes, curves: Mapping[str, Sequence[MethodResult]], styles: Mapping[str, MethodStyle], line: float
) -> None:
    """Write each method's name beside the end of its curve; they move apart where they would overlap."""
    ends = [rows[-1].shared.estimate for rows in curves.values()]
    for (method, _), end, y in zip(curves.items(), ends, spread(ends, line, axes.get_ylim()), strict=True):
        style = styles[method]
        axes.plot([0.02, 0.1, 0.2], [end, y, y], color=style.colour, linewidth=0.7, clip_on=False)
        axes.plot([0.2], [y], marker=style.marker, markersize=5, color=style.colour, clip_on=False)
        shorten(axes.text(0.3, y, method, va="center_baseline", fontsize=9), NAMES - 0.36)


def spread(ends: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Move falling positions apart, as little as need be, so that each is a gap below the one before.

    >>> [round(y, 2) for y in spread([0.7, 0.7, 0.2], 0.1, (0, 1))]
    [0.75, 0.65, 0.2]
    """
    if not ends:
        return []
    steps = gap * np.arange(len(ends))
    places = (isotonic_regression(np.add(ends, steps), increasing=False) - steps).tolist()
    low, high = limits
    over, under = max(0.0, places[0] - (high - gap / 2)), max(0.0, low + gap / 2 - places[-1])
    return [place - over + under for place in places]


def _note_beneath(axes: Axes, rows: Sequence[MethodResult], low: float) -> None:
    """Name the rows that lie below the axis, each method with its best value there."""
    if not rows:
        return
    lowest_first = sorted(rows, key=lambda row: row.shared.estimate)
    known = {row.method: f"{row.method} {row.shared.estimate:.2f}" for row in lowest_first}
    note = axes.text(
        -0.28,
        low + 0.015 * (axes.get_ylim()[1] - low),
        fill("below: " + ", ".join(known.values()), NOTE_LETTERS),
        fontsize=8,
        color=MUTED,
        va="bottom",
    )
    note.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1})


FIGURES = "figures"


def draw(content: ReportContent) -> list[Drawing]:
    """Draw all figures that the content has numbers for; a method looks the same in all of them."""
    styles = method_styles({row.method: row.role for row in content.rows})
    return [drawing for target in content.targets for drawing in _draw_target(target, styles) if drawing is not None]


def _draw_target(target: TargetContent, styles: Mapping[str, MethodStyle]) -> Iterator[Drawing | None]:
    if target.rows:
        yield shot_curve(target, styles)
    if target.comparisons and target.answers:
        yield difference(target, styles)
    yield patients(target, styles)
    yield groups(target, styles, "sizes")
    yield groups(target, styles, "labels")
    yield normals(target, styles)
    yield calibration(target, styles)
    yield controls(target, styles)


def file_names(drawings: list[Drawing]) -> list[str]:
    """Name a file for each drawing, without its ending: plain letters, and no two alike."""
    names: list[str] = []
    for drawing in drawings:
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", drawing.target).strip("-") or "dataset"
        names.append(next(name for name in numbered(f"{drawing.kind}-{plain}") if name not in names))
    return names


def write_figures(folder: Path, drawings: list[Drawing]) -> None:
    """Write each drawing into `figures/` as PNG and as SVG."""
    for name, drawing in zip(file_names(drawings), drawings, strict=True):
        write_text(folder / FIGURES / f"{name}.svg", drawing.page.svg())
        write_bytes(folder / FIGURES / f"{name}.png", drawing.page.png())
