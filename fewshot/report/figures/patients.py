"""How lesion Dice differs from patient to patient."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fewshot.report.breakdowns import shown_rows
from fewshot.report.content import TargetContent
from fewshot.report.figures.ladder import Rung, lay_out
from fewshot.report.figures.series import Look, named
from fewshot.report.figures.theme import GRID, INK, Drawing, themed

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
