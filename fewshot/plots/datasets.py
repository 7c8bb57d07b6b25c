"""Bars of a dataset's classes and splits."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from episodes.records import Label, Record
from episodes.sampling.splits import FRACTIONS
from fewshot.plots.style import DPI, GREEN, GREY, ORANGE, SKY, VERMILLION, Page, page_at, shorten, text_width

LABEL_COLOURS: dict[Label, str] = {"benign": GREEN, "malignant": VERMILLION, "unknown": ORANGE, "normal": SKY}
"""In the order in which figures show them."""

# Inches.
LEFT, RIGHT, MARGIN, GAP = 1.0, 1.35, 0.2, 0.5
TITLE, HEADING, ROW, FOOTER = 0.45, 0.3, 0.42, 0.34
PANEL, WHOLE = 2.6, 5.4
THICK = 0.7  # of a row

Panel = tuple[str, Mapping[Label, int], int]  # heading, number by class, number in all


def classes_figure(path: Path, records: Sequence[Record], *, title: str) -> Path:
    """Draw how many images, and how many patients, of a dataset there are of each class.

    Raises:
        ValueError: if there is no record.
    """
    if not records:
        raise ValueError("there is no image to count")
    images = Counter(record.label for record in records)
    patients = Counter(label for _, label in {(record.patient_id, record.label) for record in records})
    n_patients = len({record.patient_id for record in records})
    labels = [label for label in LABEL_COLOURS if images[label]]
    whom, note = _patients_of(records)
    panels: list[Panel] = [("images", images, len(records)), (whom, patients, n_patients)]
    width = LEFT + 2 * (PANEL + RIGHT) + GAP
    tall = len(labels) * ROW
    with page_at(path, width, TITLE + HEADING + tall + FOOTER) as page:
        _write_title(page, f"{title}: {len(records):,} images, {n_patients:,} {whom}")
        for place, (name, counts, total) in enumerate(panels):
            left = LEFT + place * (PANEL + RIGHT + GAP)
            page.text(left, TITLE + HEADING / 2, name, fontsize=10, color=GREY)
            _draw_bars(page.axes(left, TITLE + HEADING, PANEL, tall), labels, counts, total, named=not place)
        page.text(MARGIN, TITLE + HEADING + tall + FOOTER / 2, note, fontsize=8, color=GREY)
    return path


def splits_figure(path: Path, records: Sequence[Record], parts: Mapping[str, str], *, title: str) -> Path:
    """Draw for each part of a split (record id -> part) which share of its images is of which class.

    Parts come in the order train, val, test, others; the records may be of several datasets.

    Raises:
        ValueError: if there is no record.
    """
    if not records:
        raise ValueError("there is no image to count")
    found = {parts[record.id] for record in records}
    order = [*(part for part in FRACTIONS if part in found), *sorted(found - FRACTIONS.keys())]
    counts = {part: Counter(record.label for record in records if parts[record.id] == part) for part in order}
    whom, _ = _patients_of(records)
    labels = [label for label in LABEL_COLOURS if any(counts[part][label] for part in order)]
    width, tall = LEFT + WHOLE + RIGHT + 0.2, len(order) * ROW
    with page_at(path, width, TITLE + tall + 0.45 + FOOTER) as page:
        _write_title(page, title)
        axes = page.axes(LEFT, TITLE, WHOLE, tall)
        for row, part in enumerate(order):
            _draw_stack(axes, row, labels, counts[part])
            middle = TITLE + (row + 0.5) * ROW
            shorten(page.text(LEFT - 0.08, middle, part, ha="right"), LEFT - 0.2)
            n_patients = len({record.patient_id for record in records if parts[record.id] == part})
            beside = f"{counts[part].total():,} images\n{n_patients:,} {whom}"
            page.text(LEFT + WHOLE + 0.12, middle, beside, fontsize=9, color="#404040")
        _name_rows(axes, [""] * len(order))
        axes.set(xlim=(0, 1), xlabel="share of the part's images")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.spines["left"].set_visible(False)
        keys = [Patch(color=LABEL_COLOURS[label], label=label) for label in labels]
        page.figure.legend(
            handles=keys, loc="lower left", ncols=len(keys), bbox_to_anchor=(LEFT / width - 0.02, 0), handlelength=1.2
        )
    return path


def _write_title(page: Page, title: str) -> None:
    text = page.text(MARGIN, TITLE / 2 + 0.04, title, fontsize=12, weight="bold")
    shorten(text, page.width - 2 * MARGIN)


def _draw_bars(axes: Axes, labels: Sequence[Label], counts: Mapping[Label, int], total: int, *, named: bool) -> None:
    """Draw horizontal bars from the top, each with its number and share at its end."""
    most = max(counts[label] for label in labels)
    for row, label in enumerate(labels):
        axes.barh(row, counts[label], height=THICK, color=LABEL_COLOURS[label])
        text = f"{counts[label]:,}  ({counts[label] / total:.0%})"
        axes.annotate(
            text, (counts[label], row), (5, 0), textcoords="offset points", va="center", annotation_clip=False
        )
    _name_rows(axes, labels if named else [""] * len(labels))
    axes.set(xlim=(0, most), xticks=[])
    axes.spines["bottom"].set_visible(False)


def _draw_stack(axes: Axes, row: int, labels: Sequence[Label], counts: Mapping[Label, int]) -> None:
    """Draw one bar from 0 to 1, in pieces with their numbers where there is room."""
    total, start = sum(counts.values()), 0.0
    for label in labels:
        share = counts[label] / total
        axes.barh(row, share, left=start, height=THICK, color=LABEL_COLOURS[label], edgecolor="white", linewidth=0.8)
        text = axes.text(start + share / 2, row, f"{counts[label]:,}", ha="center", va="center", fontsize=9)
        if text_width(text) > share * WHOLE - 6 / DPI:
            text.remove()
        start += share


def _patients_of(records: Sequence[Record]) -> tuple[str, str]:
    """Say what the patients of records are, and how they are counted."""
    if not any(record.names_patient for record in records):
        return "distinct", "The dataset names no patients: each image counts as one of its own, near-duplicates as one."
    return "patients", "A patient with images of several classes counts in each."


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set(ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
