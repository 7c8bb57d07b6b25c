"""How a training went."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fewshot.figures.style import BLUE, GREY, VERMILLION, figure_at
from fewshot.training.history import History

SCORES = {"dice": "Dice", "accuracy": "right pixels", "label_accuracy": "right image labels"}
"""Columns in [0, 1] that get a panel of their own, here or as `validation_...`, and what its axis says."""


def history_figure(path: Path, history: History, *, kept_step: int | None = None, title: str = "") -> Path:
    """Draw the loss, and every score of `SCORES` that was logged: in training (smoothed) and on validation data.

    Args:
        path: of the file.
        history: `loss`, and where they were logged `validation` (a loss), scores such as `dice`, and
            `validation_dice` beside it. Other columns are not drawn.
        kept_step: the step whose weights were kept, marked in every panel.
        title: above the panels.

    Returns:
        The file written.

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
    with figure_at(path, width, 3.3 * rows + 0.5) as figure:
        entries: dict[str, Line2D] = {}
        for place, (name, train, validation) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, place)
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
        figure.suptitle(title)
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
    return path


def smooth(values: NDArray[np.floating], window: int) -> NDArray[np.float64]:
    """The mean of each value and its neighbours, `window` in all; of fewer near the ends.

    >>> smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist()
    [1.5, 3.0, 3.0, 3.0]
    """
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    middle = np.arange(len(values))
    first, last = np.maximum(middle - window // 2, 0), np.minimum(middle + window // 2 + 1, len(values))
    means: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return means


Curve = tuple[NDArray[np.int64], NDArray[np.float64]]


def _curves(axes: Axes, train: Curve, validation: Curve) -> dict[str, Line2D]:
    """Draw both; returns what the legend lists."""
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
