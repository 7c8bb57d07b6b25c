"""How all figures look, and how they reach their file."""

import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from episodes.files import written_whole

DPI = 150

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#767676"
# Okabe and Ito's colours differ for colour-blind readers too; the dashes tell curves apart in grey.
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
DASHES: tuple[str | tuple[float, tuple[float, ...]], ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (9, 3)),
)

STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # file names may hold dollar signs
}


@dataclass(frozen=True, slots=True)
class Page:
    """A figure on which things are placed in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes of this size, their labels outside."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, **how: Any) -> Text:
        """A text whose middle line is that far from the top."""
        return self.figure.text(left / self.width, 1 - top / self.height, text, va="center", **how)


@contextmanager
def page_at(path: Path, width: float, height: float) -> Iterator[Page]:
    """Like `figure_at`, for figures that place things themselves: where shapes are fixed, matplotlib leaves holes."""
    with _written(path, width, height) as figure:
        yield Page(figure, width, height)


@contextmanager
def figure_at(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure to draw on; it is written to a PNG file, whole, when the block ends without an error.

    Matplotlib places the axes so that nothing overlaps. A user's own matplotlib settings change nothing: the same
    input gives the same bytes.

    Args:
        path: of the file.
        width: in inches, at 150 pixels per inch.
        height: likewise.
    """
    with _written(path, width, height) as figure:
        figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.09)
        yield figure


@contextmanager
def styled(settings: Mapping[str, Any]) -> Iterator[None]:
    """Draw with these settings, whatever the user's own are."""
    with style.context(["default", dict(settings)]), warnings.catch_warnings():
        # A name may be in any script; a box in the picture is answer enough.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


@contextmanager
def _written(path: Path, width: float, height: float) -> Iterator[Figure]:
    with styled(STYLE):
        figure = Figure((width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        yield figure
        with written_whole(path) as partial:
            figure.savefig(partial, format="png")


def share_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """An axis of shares, from 0 to 1, with a little air so that lines along its ends are seen whole."""
    axes.set(**{f"{which}lim": (-0.02, 1.02), f"{which}ticks": (0, 0.2, 0.4, 0.6, 0.8, 1)})
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter("{x:g}")


def shortened(text: Text, width: float) -> None:
    """Take letters out of the middle of a text on a figure until it is at most so many inches wide."""
    whole = text.get_text()

    def cut(kept: int) -> str:
        return f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}"

    def too_wide(shown: str) -> bool:
        text.set_text(shown)
        return text.get_window_extent().width > width * DPI

    if too_wide(whole):
        text.set_text(cut(bisect_left(range(1, len(whole)), True, key=lambda kept: too_wide(cut(kept)))))
