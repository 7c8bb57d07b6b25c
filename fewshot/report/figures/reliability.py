"""Whether a probability of 0.8 is right 8 times in 10."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from episodes.probability_histogram import Reliability
from fewshot.figures.style import shortened
from fewshot.report.breakdowns import shown_rows
from fewshot.report.content import TargetContent
from fewshot.report.figures.series import Look, images
from fewshot.report.figures.theme import INK, MUTED, Drawing, blank, themed

COLUMNS = 3
# Inches.
LEFT, SIDE, GAP, TOP, FOOT = 0.58, 1.2, 0.14, 0.5, 0.5


def reliability(target: TargetContent, looks: Mapping[str, Look]) -> Drawing | None:
    """Draw the observed share of lesion pixels over the predicted probability, a small plot for each of the best rows.

    Returns:
        None where no method gives probabilities.
    """
    keys = [(row.method, row.shot) for row in shown_rows(target.rows)]
    chosen = [(key, target.reliability[key]) for key in keys if key in target.reliability]
    if not chosen:
        return None
    n_lines = -(-len(chosen) // COLUMNS)
    with themed():
        page = blank(n_lines * (TOP + SIDE) + FOOT)
        for place, ((method, shot), found) in enumerate(chosen):
            line, column = divmod(place, COLUMNS)
            left, top = LEFT + column * (SIDE + GAP), line * (TOP + SIDE) + TOP
            axes = page.axes(left, top, SIDE, SIDE)
            _draw(axes, found, looks[method])
            axes.tick_params(length=0, labelleft=column == 0, labelbottom=place + COLUMNS >= len(chosen))
            shortened(page.text(left, top - 0.33, method, ha="left", color=INK, fontsize=9), SIDE)
            page.text(left, top - 0.14, images(shot), ha="left", color=MUTED, fontsize=8.5)
            error = f"ECE {found.expected_calibration_error:.3f}"
            axes.text(0.05, 0.95, error, va="top", fontsize=8.5, color=MUTED)
        page.text(LEFT, n_lines * (TOP + SIDE) + 0.36, "predicted probability of lesion", ha="left", color=MUTED)
        side = page.text(0.14, TOP + SIDE / 2, "observed share", ha="center", color=MUTED, rotation=90)
        side.set_rotation_mode("default")
    return Drawing("reliability", target.target, f"Calibration on {target.target}", page.figure)


def _draw(axes: Axes, found: Reliability, look: Look) -> None:
    filled = np.asarray(found.counts) > 0
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    axes.plot(
        np.asarray(found.mean_confidences)[filled],
        np.asarray(found.observed_frequencies)[filled],
        marker=look.marker,
        markersize=4,
        linewidth=1.4,
        color=look.colour,
        clip_on=False,
    )
    axes.grid(visible=True)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")  # the ends of neighbours' axes keep apart
    last.set_horizontalalignment("right")
    axes.spines[:].set_visible(False)
