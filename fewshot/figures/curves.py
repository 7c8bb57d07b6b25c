"""How well classes are told apart: receiver operating characteristic and confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fewshot.figures.style import COLOURS, DASHES, GREY, figure_at, page_at, share_axis, shortened


@dataclass(frozen=True, slots=True)
class RocCurve:
    """One class against the rest.

    Attributes:
        name: of the class.
        false_positive_rates: rising from 0 to 1, (n,); empty where the curve is undefined.
        true_positive_rates: likewise, (n,).
        auc: the area under the curve; NaN where it is undefined.
        interval: of the area, its lower and upper end.
    """

    name: str
    false_positive_rates: NDArray[np.floating]
    true_positive_rates: NDArray[np.floating]
    auc: float
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.false_positive_rates.shape != self.true_positive_rates.shape:
            raise ValueError(
                f"{self.name}: has {self.false_positive_rates.shape} false positive rates and"
                f" {self.true_positive_rates.shape} true ones; expected as many of both"
            )

    @property
    def label(self) -> str:
        """What the legend says.

        >>> RocCurve("benign", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5, (0.41, 0.6)).label
        'benign: AUC 0.500 [0.410, 0.600]'
        """
        if math.isnan(self.auc):
            return f"{self.name}: AUC undefined"
        known = self.interval is not None and not any(map(math.isnan, self.interval))
        interval = " [{:.3f}, {:.3f}]".format(*self.interval) if self.interval and known else ""
        return f"{self.name}: AUC {self.auc:.3f}{interval}"


def roc_figure(path: Path, curves: Sequence[RocCurve], *, title: str = "") -> Path:
    """Draw the receiver operating characteristic of every class, with the areas in the legend.

    Returns:
        The file written.

    Raises:
        ValueError: if there is no curve.
    """
    if not curves:
        raise ValueError("there is no ROC curve to draw")
    side, left, top, line = 3.9, 0.7, 0.4 if title else 0.15, 0.22
    with page_at(path, left + side + 0.2, top + side + 0.75 + line * len(curves)) as page:
        axes = page.axes(left, top, side, side)
        axes.grid(visible=True)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)))
        handles: list[Line2D] = []
        for curve, colour, dashes in zip(curves, cycle(COLOURS), cycle(DASHES), strict=False):
            handles += axes.plot(
                curve.false_positive_rates, curve.true_positive_rates, color=colour, linestyle=dashes, clip_on=False
            )
        share_axis(axes, "x")
        share_axis(axes, "y")
        axes.set_xlabel("false positive rate (1 - specificity)")
        axes.set_ylabel("true positive rate (sensitivity)")
        axes.set_title(title)
        labels = [curve.label for curve in curves]
        legend = axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.02, -0.13), handlelength=3)
        for text in legend.get_texts():
            shortened(text, side - 0.5)
    return path


def confusion_figure(path: Path, matrix: NDArray[np.integer], names: Sequence[str], *, title: str = "") -> Path:
    """Draw a confusion matrix: counts, and the share of each true class.

    Args:
        path: of the file.
        matrix: counts, (truth, predicted).
        names: of the classes, in the order of both axes.
        title: above the matrix.

    Returns:
        The file written.

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
    with figure_at(path, 1.9 + 1.15 * count, 1.3 + 0.95 * count) as figure:
        axes = figure.add_subplot()
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
        axes.set_title(title)
    return path
