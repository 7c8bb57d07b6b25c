"""Curves: ROC, confusion, calibration."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from episodes.scoring.class_scores import LabelRoc
from episodes.scoring.curves import Reliability, RocCurve
from episodes.scoring.statistics import Interval
from fewshot.plots.style import BLUE, DASHES, DIAGONAL, GREY, SERIES, page_at, share_axis, shorten
from fewshot.results.numbers import TYPESET


def roc_figure(path: Path, curves: Mapping[str, RocCurve | LabelRoc]) -> Path:
    """Draw the receiver operating characteristic of every class against the rest, with the areas in the legend.

    A curve without points, as where a class has no image, is in the legend alone.

    Raises:
        ValueError: if there is no curve.
    """
    if not curves:
        raise ValueError("there is no ROC curve to draw")
    side, left, top, line = 3.9, 0.7, 0.15, 0.22
    with page_at(path, left + side + 0.2, top + side + 0.75 + line * len(curves)) as page:
        axes = page.axes(left, top, side, side)
        axes.grid(visible=True)
        axes.plot([0, 1], [0, 1], color=GREY, **DIAGONAL)
        handles: list[Line2D] = []
        for curve, colour, dashes in zip(curves.values(), cycle(SERIES), cycle(DASHES), strict=False):
            handles += axes.plot(
                curve.false_positive_rates, curve.true_positive_rates, color=colour, linestyle=dashes, clip_on=False
            )
        share_axis(axes, "x")
        share_axis(axes, "y")
        axes.set_xlabel("false positive rate (1 - specificity)")
        axes.set_ylabel("true positive rate (sensitivity)")
        labels = [area_label(name, curve.auc) for name, curve in curves.items()]
        legend = axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.02, -0.13), handlelength=3)
        for text in legend.get_texts():
            shorten(text, side - 0.5)
    return path


def area_label(name: str, area: float | Interval) -> str:
    """Say the area under a curve, with its interval where it has one.

    >>> area_label("benign", Interval(0.5, 0.41, 0.6)), area_label("normal", math.nan)
    ('benign: AUC 0.500 [0.410, 0.600]', 'normal: AUC undefined')
    """
    interval = area if isinstance(area, Interval) else Interval(area, math.nan, math.nan)
    if math.isnan(interval.estimate):
        return f"{name}: AUC undefined"
    return f"{name}: AUC {interval.estimate:.3f} {TYPESET.bounds(interval)}".rstrip()


def confusion_figure(path: Path, matrix: NDArray[np.integer], names: Sequence[str]) -> Path:
    """Draw a confusion matrix, counts (truth, predicted): each with its share of the true class.

    Raises:
        ValueError: if there is no class, or the matrix has not a row and a column for each.
    """
    count = len(names)
    if not count or matrix.shape != (count, count):
        raise ValueError(f"a confusion matrix of {count} classes is {matrix.shape}; expected one row and column each")
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    colours = matplotlib.colormaps["Blues"](0.85 * shares)
    wrapped = [fill(name, 15) for name in names]
    with page_at(path, 1.9 + 1.15 * count, 1.3 + 0.95 * count, constrained=True) as page:
        axes = page.figure.add_subplot()
        axes.imshow(colours, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            text = f"{matrix[row, column]:,}\n" + (f"{share:.1%}" if totals[row] else "-")
            dark = float(colours[row, column, :3] @ (0.2126, 0.7152, 0.0722)) < 0.5
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", linespacing=1.4)
        axes.set_xticks(range(count), wrapped)
        axes.set_yticks(range(count), [f"{name}\n(n = {total:,})" for name, total in zip(wrapped, totals, strict=True)])
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("truth")
    return path


def reliability_figure(path: Path, found: Reliability) -> Path:
    """Draw observed shares over predicted probabilities, and below how many predictions each bin holds.

    Raises:
        ValueError: if all bins are empty.
    """
    if not any(found.counts):
        raise ValueError("a reliability plot without any prediction; expected at least one")
    side, left, top, low = 3.7, 0.75, 0.15, 1.0
    with page_at(path, left + side + 0.2, top + side + 0.2 + low + 0.6) as page:
        axes, histogram = page.axes(left, top, side, side), page.axes(left, top + side + 0.2, side, low)
        draw_reliability(axes, found, GREY, color=BLUE, marker="o", markersize=5)
        axes.text(0.04, 0.96, f"ECE {found.expected_calibration_error:.3f}", transform=axes.transAxes, va="top")
        share_axis(axes, "x")
        share_axis(axes, "y")
        axes.tick_params(labelbottom=False)
        axes.set_ylabel("observed share")
        _draw_histogram(histogram, np.array(found.counts))
        share_axis(histogram, "x")
        histogram.set_xlabel("predicted probability")
        histogram.set_ylabel("pixels")
        page.figure.align_ylabels()
    return path


def draw_reliability(axes: Axes, found: Reliability, diagonal: str, **how: Any) -> None:
    """Draw a reliability diagram: observed over predicted, empty bins left out, and the diagonal where both agree."""
    filled = np.array(found.counts) > 0
    predicted, observed = np.array(found.mean_confidences)[filled], np.array(found.observed_frequencies)[filled]
    axes.plot([0, 1], [0, 1], color=diagonal, **DIAGONAL)
    axes.plot(predicted, observed, clip_on=False, **how)
    axes.grid(visible=True)


def _draw_histogram(axes: Axes, counts: NDArray[np.integer]) -> None:
    edges = np.linspace(0, 1, len(counts) + 1)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, alpha=0.45, edgecolor="white")
    axes.grid(visible=True, axis="y")
    least = int(counts[counts > 0].min())
    if counts.max() > 100 * least:
        # Nearly all pixels of an ultrasound image are surely background: the other bins would not be seen.
        axes.set_yscale("log")
        axes.set_ylim(bottom=10 ** np.floor(np.log10(least)) / 2)
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
