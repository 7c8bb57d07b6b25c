"""The one style of figures: colours, fonts, pages, and themes that follow the reader's."""

import io
import re
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

from episodes.io.files import written_whole

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


# Inches: 331 units of an SVG, less than a phone is wide, so that letters are not shrunk there.
WIDTH = 4.6

INK, MUTED, GRID, PAPER = "#1b1f26", "#5b6472", "#e4e7ec", "#fffffe"
# Okabe and Ito's colours, those too pale for thin lines on white made a little darker: 3 to 1 or more.
SERIES = ("#0072b2", "#d55e00", "#00845f", "#b4568c", "#a97400", "#1b1f27")

# What each colour becomes inside the page; the page's style sheet gives both themes their own.
VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(SERIES, 1)},
}

_STYLE = STYLE | {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",  # text stays text: it can be read aloud, found and copied
    "svg.hashsalt": "fewshot",  # without it, every drawing gets other names inside
}
_NO_FACTS = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of a report.

    Attributes:
        kind: which figure, such as `shot-curve`.
        target: of which dataset.
        label: what it shows, for readers who cannot see it.
        figure: as drawn.
    """

    kind: str
    target: str
    label: str
    figure: Figure

    def png(self) -> bytes:
        """The figure on white, at 150 pixels per inch."""
        return self._written("png")

    def svg(self) -> str:
        """The figure on white, as a file of its own."""
        return self._written("svg").decode("utf-8")

    def inline(self, prefix: str) -> str:
        """The figure as an element of a page, in the page's colours.

        Args:
            prefix: put before every name inside, so that the figures of one page do not take each other's shapes.
        """
        return _adapted(self.svg(), prefix)

    def _written(self, kind: str) -> bytes:
        buffer = io.BytesIO()
        with themed():
            self.figure.savefig(buffer, format=kind, metadata=_NO_FACTS if kind == "svg" else None)
        return buffer.getvalue()


@contextmanager
def themed() -> Iterator[None]:
    """Draw in a report's colours and letters, whatever the user's own settings are."""
    with styled(_STYLE):
        yield


def blank(height: float, width: float = WIDTH) -> Page:
    """An empty figure, in inches; call it and draw on it inside `themed`."""
    return Page(Figure((width, height), dpi=DPI), width, height)


def _adapted(svg: str, prefix: str) -> str:
    """A file as an element: without prologue, fixed size, and the style and fonts that belong to a page."""
    element = re.sub(r"<style[^>]*>.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = {found[1] for found in re.finditer(r'(?:href="|url\()#([^")]+)', element)}

    def adapted(tag: re.Match[str]) -> str:
        return _adapted_tag(tag[0], used, prefix)

    # Only inside tags: a method may be called anything.
    return re.sub(r">\s+<", "><", re.sub(r"<[^>]*>", adapted, element)).strip()


def _adapted_tag(tag: str, used: set[str], prefix: str) -> str:
    if tag.startswith("<svg"):
        box = re.search(r'viewBox="[^"]*"', tag)
        return f'<svg {box[0] if box else ""} aria-hidden="true" focusable="false">'
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", tag)
    tag = tag.replace('xlink:href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    for colour, variable in VARIABLES.items():
        tag = tag.replace(colour, variable)
    return re.sub(r"(\.\d\d)\d+", r"\1", tag)  # hundredths of a unit are enough
