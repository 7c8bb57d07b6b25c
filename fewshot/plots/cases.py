"""Single images beside their truth and prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from fewshot.plots.style import Page, page_at, shortened

# Inches.
PANEL, GAP, MARGIN = 2.3, 0.08, 0.12
HEADER, ROW_TITLE, FOOTER = 0.3, 0.32, 0.62

# With it, lines are seen on bright tissue too.
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="black", alpha=0.7)]


class _Line(TypedDict):
    color: str
    linestyle: Any


TRUTH: _Line = {"color": "#F0E442", "linestyle": "solid"}
PREDICTION: _Line = {"color": "#8BD3FF", "linestyle": (0, (3, 1.5))}
"""Yellow and whole; pale blue and dashed: told apart in grey as well."""

LIKELY = LinearSegmentedColormap.from_list("likely", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.75)])
"""From clear to vermillion, laid over the image."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image, as it is shown in a row.

    Attributes:
        title: such as `best 0.94`.
        name: of the image; a long one is shortened.
        image: grey levels, (H, W).
        truth: where the lesion is, (H, W).
        prediction: where it was predicted, (H, W).
        probability: of lesion, in [0, 1], (H, W).
        uncertainty: at least 0, on one scale for all rows, (H, W).
    """

    title: str
    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    probability: NDArray[np.floating] | None = None
    uncertainty: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or not self.image.size:
            raise ValueError(f"{self.name}: the image has the shape {self.image.shape}; expected (H, W)")
        for what in ("truth", "prediction", "probability", "uncertainty"):
            array = getattr(self, what)
            if array is not None and array.shape != self.image.shape:
                raise ValueError(
                    f"{self.name}: {what} is {array.shape}, the image {self.image.shape}; expected one size"
                )


def cases_figure(path: Path, rows: Sequence[Case]) -> Path:
    """Draw each case as a row: image, truth, prediction over the probability, and uncertainty where any has one.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("there is no case to draw")
    uncertain = [float(case.uncertainty.max()) for case in rows if case.uncertainty is not None]
    likely = any(case.probability is not None for case in rows)
    scale = Normalize(0, max(uncertain, default=0) or 1)
    headings = ["image", "truth", "prediction", *(["uncertainty"] if uncertain else [])]
    heights = [PANEL * case.image.shape[0] / case.image.shape[1] for case in rows]
    width = 2 * MARGIN + len(headings) * PANEL + (len(headings) - 1) * GAP
    height = HEADER + sum(heights) + len(rows) * ROW_TITLE + FOOTER
    with page_at(path, width, height) as page:
        top = HEADER
        for column, heading in enumerate(headings):
            page.text(_left(column) + PANEL / 2, HEADER / 2 + 0.05, heading, ha="center", fontsize=11)
        for case, tall in zip(rows, heights, strict=True):
            title = page.text(MARGIN, top + ROW_TITLE / 2 + 0.04, f"{case.title}   {case.name}", ha="left")
            shortened(title, width - 2 * MARGIN)
            panels = [page.axes(_left(column), top + ROW_TITLE, PANEL, tall) for column in range(len(headings))]
            _draw_case(panels, case, scale)
            top += ROW_TITLE + tall
        _draw_key(page, top, likely=likely, scale=scale if uncertain else None)
    return path


def _left(column: int) -> float:
    return MARGIN + column * (PANEL + GAP)


def _draw_case(panels: Sequence[Axes], case: Case, scale: Normalize) -> None:
    for axes in panels[:3]:
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    if case.probability is not None:
        panels[2].imshow(case.probability, cmap=LIKELY, vmin=0, vmax=1, aspect="auto")
    _outline(panels[1], case.truth, **TRUTH)
    _outline(panels[2], case.truth, **TRUTH)
    _outline(panels[2], case.prediction, **PREDICTION)
    for axes, mask, remark in ((panels[1], case.truth, "no lesion"), (panels[2], case.prediction, "none predicted")):
        if not mask.any():
            axes.text(0.04, 0.04, remark, color="white", transform=axes.transAxes, path_effects=HALO)
    if case.uncertainty is not None:
        panels[3].imshow(case.uncertainty, cmap="magma", norm=scale, aspect="auto")
        _outline(panels[3], case.prediction, **PREDICTION)
    for axes in panels:
        axes.set_axis_off()


def _outline(axes: Axes, mask: NDArray[np.bool_], *, color: str, linestyle: Any) -> None:
    """Draw the border of a mask, also along the image's edge."""
    if not mask.any():
        return
    limits = axes.axis()
    around = np.pad(mask, 1).astype(float)
    rows, columns = (np.arange(-1, length + 1) for length in mask.shape)
    lines = axes.contour(columns, rows, around, levels=[0.5], colors=color, linestyles=[linestyle], linewidths=1.2)
    lines.set_path_effects(HALO)
    axes.axis(limits)


def _draw_key(page: Page, top: float, *, likely: bool, scale: Normalize | None) -> None:
    """Say below the rows what lines and colours mean."""
    for column, (name, how) in enumerate((("truth", TRUTH), ("prediction", PREDICTION))):
        axes = page.axes(_left(column), top + 0.14, 0.6, 0.18)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], facecolor="#404040")
        axes.spines[:].set_visible(False)
        axes.plot([0.1, 0.9], [0.5, 0.5], linewidth=1.2, path_effects=HALO, **how)
        page.text(_left(column) + 0.68, top + 0.23, name, ha="left")
    if likely:
        _draw_bar(page, 2, top, LIKELY, Normalize(0, 1), "probability")
    if scale is not None:
        _draw_bar(page, 3, top, matplotlib.colormaps["magma"], scale, "uncertainty")


def _draw_bar(page: Page, column: int, top: float, colours: Colormap, scale: Normalize, name: str) -> None:
    axes = page.axes(_left(column) + 0.04, top + 0.14, PANEL - 0.08, 0.12)
    bar = page.figure.colorbar(ScalarMappable(scale, colours), cax=axes, orientation="horizontal")
    bar.set_ticks([0, float(scale.vmax or 1)], labels=["0", f"{scale.vmax:.3g}"])
    bar.outline.set_visible(False)
    axes.set_xlabel(name, labelpad=-10)
