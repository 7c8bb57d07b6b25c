"""Pictures of a dataset: a contact sheet, and bars of its classes and splits."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

from episodes.images.regions import contours
from episodes.records import LABEL_VALUES, Label, Record
from fewshot.plots.style import DPI, GREEN, GREY, ORANGE, SKY, VERMILLION, Page, page_at, shortened


@dataclass(frozen=True, slots=True)
class Look:
    """One class's colours.

    Attributes:
        outline: of a lesion, on a dark image; the brighter the class, the easier to tell apart without colours.
        dashes: of the outline, for who sees red and green as one.
        bar: of a bar, on white.
    """

    outline: str
    dashes: str | tuple[float, tuple[float, ...]]
    bar: str

    @property
    def line(self) -> dict[str, Any]:
        """The outline as matplotlib's keywords."""
        return {"color": self.outline, "linestyle": self.dashes}


LOOKS: Mapping[Label, Look] = MappingProxyType(
    {
        "benign": Look("#3DF08B", "solid", GREEN),
        "malignant": Look("#FF4040", (0, (4, 1)), VERMILLION),
        "unknown": Look("#FFC83D", (0, (1.2, 0.8)), ORANGE),
        "normal": Look("#FFFFFF", "solid", SKY),  # has no outline
    }
)
"""In the order in which figures show them."""


# Inches.
LEFT, RIGHT, BAR_MARGIN, BAR_GAP = 1.0, 1.35, 0.2, 0.5
BAR_TITLE, HEADING, ROW, FOOTER = 0.45, 0.3, 0.42, 0.34
PANEL, WHOLE = 2.6, 5.4
THICK = 0.7  # of a row

_USUAL = ("train", "val", "test")

Panel = tuple[str, Mapping[Label, int], int]  # heading, number by class, number in all


def classes_figure(path: Path, records: Sequence[Record], *, title: str) -> Path:
    """Draw how many images, and how many patients, there are of each class.

    Args:
        path: of the file.
        records: of one dataset.
        title: above the bars.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no record.
    """
    if not records:
        raise ValueError("there is no image to count")
    images = Counter(record.label for record in records)
    patients = Counter(label for _, label in {(record.patient_id, record.label) for record in records})
    n_patients = len({record.patient_id for record in records})
    labels = [label for label in LOOKS if images[label]]
    whom, note = _patients_of(records)
    panels: list[Panel] = [("images", images, len(records)), (whom, patients, n_patients)]
    width = LEFT + 2 * (PANEL + RIGHT) + BAR_GAP
    tall = len(labels) * ROW
    with page_at(path, width, BAR_TITLE + HEADING + tall + FOOTER) as page:
        heading = f"{title}: {len(records):,} images, {n_patients:,} {whom}"
        shortened(
            page.text(BAR_MARGIN, BAR_TITLE / 2 + 0.04, heading, fontsize=12, weight="bold"), width - 2 * BAR_MARGIN
        )
        for place, (name, counts, total) in enumerate(panels):
            left = LEFT + place * (PANEL + RIGHT + BAR_GAP)
            page.text(left, BAR_TITLE + HEADING / 2, name, fontsize=10, color=GREY)
            _draw_bars(page.axes(left, BAR_TITLE + HEADING, PANEL, tall), labels, counts, total, named=not place)
        page.text(BAR_MARGIN, BAR_TITLE + HEADING + tall + FOOTER / 2, note, fontsize=8, color=GREY)
    return path


def splits_figure(path: Path, records: Sequence[Record], parts: Mapping[str, str], *, title: str) -> Path:
    """Draw for each part of a split which share of its images is of which class.

    Args:
        path: of the file.
        records: of one or several datasets.
        parts: record id -> part, of every record; drawn in the order train, val, test, others.
        title: above the bars.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no record.
    """
    if not records:
        raise ValueError("there is no image to count")
    counts: dict[str, Counter[Label]] = {}
    patients: dict[str, set[str]] = {}
    for record in records:
        part = parts[record.id]
        counts.setdefault(part, Counter())[record.label] += 1
        patients.setdefault(part, set()).add(record.patient_id)
    whom, _ = _patients_of(records)
    order = sorted(counts, key=lambda part: (_USUAL.index(part) if part in _USUAL else len(_USUAL), part))
    labels = [label for label in LOOKS if any(counts[part][label] for part in order)]
    width, tall = LEFT + WHOLE + RIGHT + 0.2, len(order) * ROW
    with page_at(path, width, BAR_TITLE + tall + 0.45 + FOOTER) as page:
        shortened(
            page.text(BAR_MARGIN, BAR_TITLE / 2 + 0.04, title, fontsize=12, weight="bold"), width - 2 * BAR_MARGIN
        )
        axes = page.axes(LEFT, BAR_TITLE, WHOLE, tall)
        for row, part in enumerate(order):
            _draw_stack(axes, row, labels, counts[part])
            middle = BAR_TITLE + (row + 0.5) * ROW
            shortened(page.text(LEFT - 0.08, middle, part, ha="right"), LEFT - 0.2)
            beside = f"{counts[part].total():,} images\n{len(patients[part]):,} {whom}"
            page.text(LEFT + WHOLE + 0.12, middle, beside, fontsize=9, color="#404040")
        _name_rows(axes, [""] * len(order))
        axes.set(xlim=(0, 1), xlabel="share of the part's images")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.spines["left"].set_visible(False)
        keys = [Patch(color=LOOKS[label].bar, label=label) for label in labels]
        page.figure.legend(
            handles=keys, loc="lower left", ncols=len(keys), bbox_to_anchor=(LEFT / width - 0.02, 0), handlelength=1.2
        )
    return path


def _draw_bars(axes: Axes, labels: Sequence[Label], counts: Mapping[Label, int], total: int, *, named: bool) -> None:
    """Horizontal bars from the top, each with its number and share at its end."""
    most = max(counts[label] for label in labels)
    for row, label in enumerate(labels):
        axes.barh(row, counts[label], height=THICK, color=LOOKS[label].bar)
        text = f"{counts[label]:,}  ({counts[label] / total:.0%})"
        axes.annotate(
            text, (counts[label], row), (5, 0), textcoords="offset points", va="center", annotation_clip=False
        )
    _name_rows(axes, labels if named else [""] * len(labels))
    axes.set(xlim=(0, most), xticks=[])
    axes.spines["bottom"].set_visible(False)


def _draw_stack(axes: Axes, row: int, labels: Sequence[Label], counts: Mapping[Label, int]) -> None:
    """One bar from 0 to 1, in pieces with their numbers where there is room."""
    total, start = sum(counts.values()), 0.0
    for label in labels:
        share = counts[label] / total
        axes.barh(row, share, left=start, height=THICK, color=LOOKS[label].bar, edgecolor="white", linewidth=0.8)
        text = axes.text(start + share / 2, row, f"{counts[label]:,}", ha="center", va="center", fontsize=9)
        if text.get_window_extent().width > share * WHOLE * DPI - 6:
            text.remove()
        start += share


def _patients_of(records: Sequence[Record]) -> tuple[str, str]:
    """What the patients of records are, and a note on how they are counted."""
    stems = {record.image.stem for record in records}
    if all(record.patient in stems for record in records):
        return "distinct", "The dataset names no patients: each image counts as one of its own, near-duplicates as one."
    return "patients", "A patient with images of several classes counts in each."


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set(ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)


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
