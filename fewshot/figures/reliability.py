"""Whether probabilities mean what they say."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from fewshot.figures.style import BLUE, GREY, page_at, share_axis


def reliability_figure(
    path: Path,
    *,
    edges: NDArray[np.floating],
    predicted: NDArray[np.floating],
    observed: NDArray[np.floating],
    counts: NDArray[np.integer],
    ece: float,
    counted: str = "pixels",
    title: str = "",
) -> Path:
    """Draw observed shares over predicted probabilities, and below how many predictions each bin holds.

    Args:
        path: of the file.
        edges: of the bins, rising from 0 to 1, (n + 1,).
        predicted: mean probability in each bin, (n,); NaN in an empty one.
        observed: share of positives in each bin, (n,); likewise.
        counts: predictions in each bin, (n,).
        ece: expected calibration error, in [0, 1].
        counted: what a prediction is about.
        title: above the plot.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no bin, all are empty, or the lengths disagree.
    """
    lengths = {"edges": len(edges) - 1, "predicted": len(predicted), "observed": len(observed), "counts": len(counts)}
    if len(set(lengths.values())) > 1 or len(counts) < 1:
        raise ValueError(f"a reliability plot of {lengths} bins; expected as many of each, at least one")
    if not counts.sum():
        raise ValueError("a reliability plot without any prediction; expected at least one")
    side, left, top, low = 3.7, 0.75, 0.4 if title else 0.15, 1.0
    with page_at(path, left + side + 0.2, top + side + 0.2 + low + 0.6) as page:
        axes, histogram = page.axes(left, top, side, side), page.axes(left, top + side + 0.2, side, low)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)))
        axes.plot(predicted[counts > 0], observed[counts > 0], color=BLUE, marker="o", markersize=5, clip_on=False)
        axes.text(0.04, 0.96, f"ECE {ece:.3f}", transform=axes.transAxes, va="top")
        axes.grid(visible=True)
        share_axis(axes, "x")
        share_axis(axes, "y")
        axes.tick_params(labelbottom=False)
        axes.set_ylabel("observed share")
        axes.set_title(title)
        _draw_histogram(histogram, edges, counts)
        share_axis(histogram, "x")
        histogram.set_xlabel("predicted probability")
        histogram.set_ylabel(counted)
        page.figure.align_ylabels()
    return path


def _draw_histogram(axes: Axes, edges: NDArray[np.floating], counts: NDArray[np.integer]) -> None:
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
