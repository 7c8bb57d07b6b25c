"""Figures of images with the outlines of lesions: cases beside their truth and prediction, and contact sheets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from episodes.images.regions import contours
from episodes.records import LABEL_VALUES, Label
from fewshot.plots.style import GREY, Page, page_at, shorten, text_width
from fewshot.results.pictures import BENIGN, LESION, MALIGNANT

# Inches.
PANEL, PANEL_GAP, PANEL_MARGIN = 2.3, 0.08, 0.12
HEADINGS, ROW_TITLE, FOOTER = 0.3, 0.32, 0.62

# With it, lines are seen on bright tissue too.
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground="black", alpha=0.7)]

TRUTH: dict[str, Any] = {"color": "#f0e442", "linestyle": "solid"}
PREDICTION: dict[str, Any] = {"color": LESION, "linestyle": (0, (3, 1.5))}
"""Yellow and whole; pale blue and dashed: told apart in grey as well."""

LIKELY = LinearSegmentedColormap.from_list("likely", [(0.84, 0.37, 0, 0), (0.84, 0.37, 0, 0.75)])
"""From clear to vermillion, laid over the image."""

# The brighter the class, the easier to tell apart without colours; dashes for who sees red and green as one.
LABEL_LINES: dict[Label, dict[str, Any]] = {
    "benign": {"color": BENIGN, "linestyle": "solid"},
    "malignant": {"color": MALIGNANT, "linestyle": (0, (4, 1))},
    "unknown": {"color": "#ffc83d", "linestyle": (0, (1.2, 0.8))},
}


@dataclass(frozen=True, slots=True)
class Case:
    """One image, as it is shown in a row."""

    title: str  # such as `best 0.94`
    name: str  # of the image; a long one is shortened
    image: NDArray[np.uint8]  # grey levels, (H, W)
    truth: NDArray[np.bool_]  # where the lesion is, (H, W)
    prediction: NDArray[np.bool_]  # likewise
    probability: NDArray[np.floating] | None = None  # of lesion, in [0, 1], (H, W)
    uncertainty: NDArray[np.floating] | None = None  # at least 0, on one scale for all rows, (H, W)

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
    width = 2 * PANEL_MARGIN + len(headings) * PANEL + (len(headings) - 1) * PANEL_GAP
    height = HEADINGS + sum(heights) + len(rows) * ROW_TITLE + FOOTER
    with page_at(path, width, height) as page:
        top = HEADINGS
        for column, heading in enumerate(headings):
            page.text(_left(column) + PANEL / 2, HEADINGS / 2 + 0.05, heading, ha="center", fontsize=11)
        for case, tall in zip(rows, heights, strict=True):
            title = page.text(PANEL_MARGIN, top + ROW_TITLE / 2 + 0.04, f"{case.title}   {case.name}", ha="left")
            shorten(title, width - 2 * PANEL_MARGIN)
            panels = [page.axes(_left(column), top + ROW_TITLE, PANEL, tall) for column in range(len(headings))]
            _draw_case(panels, case, scale)
            top += ROW_TITLE + tall
        for column, (name, how) in enumerate((("truth", TRUTH), ("prediction", PREDICTION))):
            _line_key(page, _left(column), top + 0.14, 0.6, path_effects=HALO, **how)
            page.text(_left(column) + 0.68, top + 0.23, name, ha="left")
        if likely:
            _colour_key(page, 2, top, LIKELY, Normalize(0, 1), "probability")
        if uncertain:
            _colour_key(page, 3, top, matplotlib.colormaps["magma"], scale, "uncertainty")
    return path


def _left(column: int) -> float:
    return PANEL_MARGIN + column * (PANEL + PANEL_GAP)


def _draw_case(panels: Sequence[Axes], case: Case, scale: Normalize) -> None:
    for axes in panels[:3]:
        axes.imshow(case.image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    if case.probability is not None:
        panels[2].imshow(case.probability, cmap=LIKELY, vmin=0, vmax=1, aspect="auto")
    _outline(panels[1], case.truth, HALO, linewidth=1.2, **TRUTH)
    _outline(panels[2], case.truth, HALO, linewidth=1.2, **TRUTH)
    _outline(panels[2], case.prediction, HALO, linewidth=1.2, **PREDICTION)
    for axes, mask, remark in ((panels[1], case.truth, "no lesion"), (panels[2], case.prediction, "none predicted")):
        if not mask.any():
            axes.text(0.04, 0.04, remark, color="white", transform=axes.transAxes, path_effects=HALO)
    if case.uncertainty is not None:
        panels[3].imshow(case.uncertainty, cmap="magma", norm=scale, aspect="auto")
        _outline(panels[3], case.prediction, HALO, linewidth=1.2, **PREDICTION)
    for axes in panels:
        axes.set_axis_off()


def _outline(axes: Axes, mask: NDArray[np.bool_], halo: list[AbstractPathEffect], **how: Any) -> None:
    """Draw the border of a mask over its image, also along the image's edge."""
    axes.set_autoscale_on(False)
    for line in contours(mask):
        axes.plot(*(line - 0.5).T, path_effects=halo, clip_on=False, **how)


def _line_key(page: Page, left: float, top: float, width: float, **how: Any) -> None:
    """Draw a piece of a line on a dark box, as it runs over images."""
    axes = page.axes(left, top, width, 0.18)
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], facecolor="#404040")
    axes.spines[:].set_visible(False)
    axes.plot([0.1, 0.9], [0.5, 0.5], linewidth=1.2, **how)


def _colour_key(page: Page, column: int, top: float, colours: Colormap, scale: Normalize, name: str) -> None:
    axes = page.axes(_left(column) + 0.04, top + 0.14, PANEL - 0.08, 0.12)
    bar = page.figure.colorbar(ScalarMappable(scale, colours), cax=axes, orientation="horizontal")
    bar.set_ticks([0, float(scale.vmax or 1)], labels=["0", f"{scale.vmax:.3g}"])
    bar.outline.set_visible(False)
    axes.set_xlabel(name, labelpad=-10)


# Inches.
COLUMNS, TILE, GAP, MARGIN = 8, 1.6, 0.1, 0.2
TALLEST = 1.0  # times the width; what is taller is shown narrower
TITLE, HEADER, CAPTION, KEY_LINE = 0.45, 0.36, 0.19, 0.5
WIDTH = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP

THIN_HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.0, foreground="black", alpha=0.55)]


@dataclass(frozen=True, slots=True)
class Tile:
    """One image."""

    name: str  # shown below it; a long one is shortened
    image: NDArray[np.uint8]  # grey levels, (H, W), stretched as its store has it
    label_map: NDArray[np.uint8]  # values of `LABEL_VALUES`, (H, W)
    aspect: float  # height over width of the image as it was recorded

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.image.shape != self.label_map.shape:
            raise ValueError(
                f"{self.name}: the image is {self.image.shape}, its label map {self.label_map.shape}; expected one"
                " (H, W)"
            )


@dataclass(frozen=True, slots=True)
class TileGroup:
    """Images that belong together, such as those of one class."""

    label: str  # what stands above them, such as the class
    tiles: Sequence[Tile]  # those that are shown
    total: int  # how many there are in all
    note: str | None = None  # beside the label; None for how many there are, and are shown


def contact_sheet(path: Path, groups: Sequence[TileGroup], *, title: str) -> Path:
    """Draw images in rows, group by group, each in its own proportions.

    Raises:
        ValueError: if there is no image.
    """
    groups = [group for group in groups if group.tiles]
    if not groups:
        raise ValueError("there is no image to show")
    rows = [list(_rows(group.tiles)) for group in groups]
    heights = [HEADER + sum(_height(row) + CAPTION + GAP for row in of_group) for of_group in rows]
    with page_at(path, WIDTH, TITLE + sum(heights)) as page:
        end = _draw_labels(page, groups)
        shorten(page.text(MARGIN, TITLE / 2 + 0.05, title, fontsize=13, weight="bold"), end - MARGIN)
        top = TITLE
        for group, of_group, tall in zip(groups, rows, heights, strict=True):
            _draw_header(page, group, top)
            _draw_rows(page, of_group, top + HEADER)
            top += tall
    return path


def _rows(tiles: Sequence[Tile]) -> Iterator[Sequence[Tile]]:
    return (tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS))


def _height(row: Sequence[Tile]) -> float:
    return max(TILE * min(tile.aspect, TALLEST) for tile in row)


def _draw_header(page: Page, group: TileGroup, top: float) -> None:
    shown = "all shown" if len(group.tiles) == group.total else f"{len(group.tiles)} shown"
    images = "1 image" if group.total == 1 else f"{group.total:,} images"
    head = page.text(MARGIN, top + HEADER / 2, group.label, fontsize=11, weight="bold")
    page.text(
        MARGIN + text_width(head) + 0.12,
        top + HEADER / 2,
        f"{images}, {shown}" if group.note is None else group.note,
        fontsize=10,
        color=GREY,
    )


def _draw_rows(page: Page, rows: Sequence[Sequence[Tile]], top: float) -> None:
    for row in rows:
        for column, tile in enumerate(row):
            width = TILE * min(1, TALLEST / tile.aspect)
            left, tall = MARGIN + column * (TILE + GAP), width * tile.aspect
            axes = page.axes(left + (TILE - width) / 2, top + _height(row) - tall, width, tall)
            _draw_tile(axes, tile)
            caption = page.text(
                left + TILE / 2, top + _height(row) + CAPTION / 2, tile.name, fontsize=6.5, ha="center", color="#404040"
            )
            shorten(caption, TILE)
        top += _height(row) + CAPTION + GAP


def _draw_tile(axes: Axes, tile: Tile) -> None:
    axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="antialiased")
    for label, how in LABEL_LINES.items():
        _outline(axes, tile.label_map == LABEL_VALUES[label], THIN_HALO, linewidth=0.9, **how)
    axes.set_axis_off()


def _draw_labels(page: Page, groups: Sequence[TileGroup]) -> float:
    """Say at the upper right what the lines mean, and return where that begins, in inches from the left."""
    found = {int(value) for group in groups for tile in group.tiles for value in np.unique(tile.label_map)}
    end, middle = WIDTH - MARGIN, TITLE / 2 + 0.05
    for label, how in reversed(LABEL_LINES.items()):
        if LABEL_VALUES[label] in found:
            text = page.text(end, middle, f"{label} lesion", fontsize=10, ha="right")
            left = end - text_width(text) - KEY_LINE - 0.08
            _line_key(page, left, middle - 0.09, KEY_LINE, **how)
            end = left - 0.25
    return end
