"""Curves of a training: losses and scores over its steps."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from fewshot.plots.style import BLUE, GREY, VERMILLION, page_at
from fewshot.results.history import History

SCORES = {"dice": "Dice", "accuracy": "right pixels", "label_accuracy": "right image labels"}
"""Columns in [0, 1] that get a panel of their own, here or as `validation_...`, and what its axis says."""


def history_figure(path: Path, history: History, *, kept_step: int | None = None) -> Path:
    """Draw the loss, and every score of `SCORES` that was logged: in training (smoothed) and on validation data.

    These are the columns `loss`, `validation` (a loss), scores such as `dice`, and `validation_dice` beside it. The
    step whose weights were kept is marked in every panel.

    Raises:
        ValueError: if the history has no loss and no score.
    """
    panels = [("loss", "loss", "validation"), *((name, name, f"validation_{name}") for name in SCORES)]
    panels = [panel for panel in panels if any(len(history.curve(name)[0]) for name in panel[1:])]
    if not panels:
        raise ValueError(f"a history of {', '.join(history.columns) or 'nothing'}; expected a loss or a score")
    columns = len(panels) if len(panels) < 4 else -(-len(panels) // 2)
    rows = -(-len(panels) // columns)
    width = 5.6 if columns == 1 else 4.2 * columns
    with page_at(path, width, 3.3 * rows + 0.5, constrained=True) as page:
        entries: dict[str, Line2D] = {}
        for place, (name, train, validation) in enumerate(panels, start=1):
            axes = page.figure.add_subplot(rows, columns, place)
            entries |= _curves(axes, history.curve(train), history.curve(validation))
            if kept_step is not None:
                line = axes.axvline(kept_step, color=GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
                entries[f"kept: step {kept_step:,}"] = line
            axes.set_ylabel(SCORES.get(name, name))
            axes.set_xlabel("step")
            axes.grid(visible=True)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
            axes.xaxis.set_major_formatter("{x:,.0f}")
            if len(history.steps) == 1:  # an axis of no length gets made-up decimals
                axes.set_xlim(history.steps[0] - 0.9, history.steps[0] + 0.9)
            if name != "loss":
                axes.set_ylim(top=min(1.0, axes.get_ylim()[1]))
        page.figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
    return path


def smooth(values: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """Compute the mean of each value and its neighbours, `window` in all; of fewer near the ends.

    >>> smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    both = np.stack([values, np.ones(len(values))])
    sums, counts = uniform_filter1d(both, window, axis=1, mode="constant")
    means: NDArray[np.float64] = sums / counts
    return means


Curve = tuple[NDArray[np.int64], NDArray[np.float64]]


def _curves(axes: Axes, train: Curve, validation: Curve) -> dict[str, Line2D]:
    """Draw both, and return what the legend lists."""
    entries: dict[str, Line2D] = {}
    steps, values = train
    window = len(values) // 50 * 2 + 1  # a twenty-fifth of the training
    if window > 1:
        axes.plot(steps, values, color=BLUE, linewidth=0.5, alpha=0.35)
        entries["training, smoothed"] = axes.plot(steps, smooth(values, window), color=BLUE)[0]
    elif len(values):
        entries["training"] = axes.plot(steps, values, color=BLUE, marker=".")[0]
    if len(validation[0]):
        entries["validation"] = axes.plot(*validation, color=VERMILLION, linewidth=1, marker="o", markersize=4)[0]
    everything = np.concatenate([values, validation[1]])
    if everything.min() > 0 and everything.max() > 20 * np.median(everything):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    return entries
