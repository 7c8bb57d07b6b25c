"""Many small images on one page, lesions outlined in the colours of their classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

from episodes.records import LABEL_VALUES, Label
from fewshot.figures.classes import LOOKS
from fewshot.figures.contours import contours
from fewshot.figures.style import GREY, Page, page_at, shortened

# Inches.
COLUMNS, TILE, GAP, MARGIN = 8, 1.6, 0.1, 0.2
TALLEST = 1.0  # times the width; what is taller is shown narrower
TITLE, HEADER, CAPTION, KEY_LINE = 0.45, 0.36, 0.19, 0.5
WIDTH = 2 * MARGIN + COLUMNS * TILE + (COLUMNS - 1) * GAP

HALO = withStroke(linewidth=2.0, foreground="black", alpha=0.55)


@dataclass(frozen=True, slots=True)
class Tile:
    """One image.

    Attributes:
        name: shown below it; a long one is shortened.
        image: grey levels, (H, W), stretched as its store has it.
        label_map: values of `LABEL_VALUES`, (H, W).
        aspect: height over width of the image as it was recorded.
    """

    name: str
    image: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    aspect: float

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or self.image.shape != self.label_map.shape:
            raise ValueError(
                f"{self.name}: the image is {self.image.shape}, its label map {self.label_map.shape}; expected one"
                " (H, W)"
            )


@dataclass(frozen=True, slots=True)
class Group:
    """Images that belong together, such as those of one class.

    Attributes:
        label: what stands above them, such as the class.
        tiles: those that are shown.
        total: how many there are in all.
        note: what stands beside the label; None for how many there are, and are shown.
    """

    label: str
    tiles: Sequence[Tile]
    total: int
    note: str | None = None


def contact_sheet(path: Path, groups: Sequence[Group], *, title: str) -> Path:
    """Draw images in rows, group by group, each in its own proportions.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no image.
    """
    groups = [group for group in groups if group.tiles]
    if not groups:
        raise ValueError("there is no image to show")
    rows = [list(_rows(group.tiles)) for group in groups]
    heights = [HEADER + sum(_height(row) + CAPTION + GAP for row in of_group) for of_group in rows]
    with page_at(path, WIDTH, TITLE + sum(heights)) as page:
        end = _draw_key(page, _drawn(groups))
        shortened(page.text(MARGIN, TITLE / 2 + 0.05, title, fontsize=13, weight="bold"), end - MARGIN)
        top = TITLE
        for group, of_group, tall in zip(groups, rows, heights, strict=True):
            _draw_header(page, group, top)
            _draw_rows(page, of_group, top + HEADER)
            top += tall
    return path


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The borders of a mask (H, W), also along the image's edge: closed lines of (x, y) in [0, 1].

    >>> [line.min(axis=0).tolist() + line.max(axis=0).tolist() for line in outlines(np.ones((4, 4), bool))]
    [[0.0, 0.0, 1.0, 1.0]]
    """
    width_and_height = np.array(mask.shape[::-1])
    return [line / width_and_height for line in contours(mask)]


def _rows(tiles: Sequence[Tile]) -> Iterator[Sequence[Tile]]:
    return (tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS))


def _height(row: Sequence[Tile]) -> float:
    return max(TILE * min(tile.aspect, TALLEST) for tile in row)


def _draw_header(page: Page, group: Group, top: float) -> None:
    shown = "all shown" if len(group.tiles) == group.total else f"{len(group.tiles)} shown"
    images = "1 image" if group.total == 1 else f"{group.total:,} images"
    head = page.text(MARGIN, top + HEADER / 2, group.label, fontsize=11, weight="bold")
    page.text(
        MARGIN + _width(page, head) + 0.12,
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
            shortened(caption, TILE)
        top += _height(row) + CAPTION + GAP


def _draw_tile(axes: Axes, tile: Tile) -> None:
    axes.imshow(
        tile.image, cmap="gray", vmin=0, vmax=255, aspect="auto", extent=(0, 1, 1, 0), interpolation="antialiased"
    )
    for label, look in LOOKS.items():
        if not LABEL_VALUES[label]:
            continue
        for line in outlines(tile.label_map == LABEL_VALUES[label]):
            axes.plot(*line.T, linewidth=0.9, path_effects=[HALO], clip_on=False, **look.line)
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()


def _drawn(groups: Sequence[Group]) -> list[Label]:
    """The classes of which there is an outline."""
    found = {int(value) for group in groups for tile in group.tiles for value in np.unique(tile.label_map)}
    return [label for label in LOOKS if LABEL_VALUES[label] in found and LABEL_VALUES[label]]


def _draw_key(page: Page, labels: Sequence[Label]) -> float:
    """Say at the upper right what the lines mean; returns where that begins, in inches from the left."""
    end = WIDTH - MARGIN
    for label in reversed(labels):
        text = page.text(end, TITLE / 2 + 0.05, f"{label} lesion", fontsize=10, ha="right")
        left = end - _width(page, text) - KEY_LINE - 0.08
        axes = page.axes(left, TITLE / 2 + 0.05 - 0.09, KEY_LINE, 0.18)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], facecolor="#303030")
        axes.spines[:].set_visible(False)
        axes.plot([0.12, 0.88], [0.5, 0.5], linewidth=1.2, **LOOKS[label].line)
        end = left - 0.25
    return end


def _width(page: Page, text: Text) -> float:
    """How wide a text on a page is, in inches."""
    return float(text.get_window_extent().width) / float(page.figure.dpi)
