"""The one style of figures: colours, pages laid out in inches, and how these are saved."""

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

from episodes.io.files import write_bytes

DPI = 150

BLUE, VERMILLION, GREEN, ORANGE, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#767676"
# Okabe and Ito's colours, which differ for colour-blind readers too; those too pale for thin lines on white are made a
# little darker: 3 to 1 or more. The dashes tell curves apart in grey.
SERIES = (BLUE, VERMILLION, "#00845f", "#b4568c", "#a97400", "#1b1f27")
DASHES: tuple[str | tuple[float, tuple[float, ...]], ...] = (
    "solid",
    (0, (5, 1.5)),
    (0, (1.5, 1)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (9, 3)),
)
# Told apart by shape where colours look alike, in grey for instance; as many as have no common divisor with colours.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DIAGONAL: dict[str, Any] = {"linewidth": 1, "linestyle": (0, (2, 2))}

STYLE: dict[str, Any] = {
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

INK, MUTED, GRID, PAPER = "#1b1f26", "#5b6472", "#e4e7ec", "#fffffe"

# What each colour becomes inside a report's page, whose style sheet gives a light and a dark theme their own.
VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(SERIES, 1)},
}

THEMED = STYLE | {
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
class MethodStyle:
    """Lines and marks of a method: colour, marker and dashes, each enough to tell it apart."""

    colour: str
    marker: str
    dashes: Any = "solid"

    @property
    def line(self) -> dict[str, Any]:
        """Return the keywords of a line."""
        return {"color": self.colour, "linestyle": self.dashes}


_GREY_STYLES = {"floor": MethodStyle(MUTED, "x", (0, (1, 2))), "oracle": MethodStyle(MUTED, "*", (0, (6, 2, 1, 2)))}


def method_styles(roles: Mapping[str, str]) -> dict[str, MethodStyle]:
    """Choose a style for each method, in the order of their names, so that a new number changes no colour.

    Roles are by method; all but a `method`, such as a `control`, `floor` or `oracle`, are grey.
    """
    methods = sorted(method for method, role in roles.items() if role == "method")
    styles = {
        method: MethodStyle(SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
        for place, method in enumerate(methods)
    }
    others = {method: role for method, role in roles.items() if role != "method"}
    grey = MethodStyle(MUTED, "o", (0, (2, 1)))
    return styles | {method: _GREY_STYLES.get(role, grey) for method, role in others.items()}


@dataclass(frozen=True, slots=True)
class Page:
    """A figure on which things are placed in inches from its upper left corner, at 150 pixels per inch.

    It is drawn on inside `new_page`, and both drawn and saved with the same settings of matplotlib.
    """

    figure: Figure
    width: float
    height: float
    settings: Mapping[str, Any]

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes of this size, their labels outside."""
        bottom = self.height - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def text(self, left: float, top: float, text: str, **how: Any) -> Text:
        """Write a text whose middle line is that far from the top."""
        return self.figure.text(left / self.width, 1 - top / self.height, text, va="center", **how)

    def png(self) -> bytes:
        """Return the page as a PNG file."""
        return self._saved("png")

    def svg(self) -> str:
        """Return the page as an SVG file, which says neither when nor by what it was made."""
        return self._saved("svg", metadata=_NO_FACTS).decode("utf-8")

    def _saved(self, form: str, **how: Any) -> bytes:
        buffer = io.BytesIO()
        with _styled(self.settings):
            self.figure.savefig(buffer, format=form, **how)
        return buffer.getvalue()


@contextmanager
def new_page(width: float, height: float, settings: Mapping[str, Any] = STYLE) -> Iterator[Page]:
    """Give an empty page, in inches, to draw on inside the block.

    A user's own matplotlib settings change nothing: the same input gives the same bytes.
    """
    with _styled(settings):
        figure = Figure((width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        yield Page(figure, width, height, settings)


@contextmanager
def page_at(path: Path, width: float, height: float, *, constrained: bool = False) -> Iterator[Page]:
    """Give an empty page, in inches, written to a PNG file, whole, when the block ends without an error.

    If `constrained`, matplotlib places the axes so that nothing overlaps; where shapes are fixed, that leaves holes.
    """
    with new_page(width, height) as page:
        if constrained:
            page.figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.09)
        yield page
    write_bytes(path, page.png())


@contextmanager
def _styled(settings: Mapping[str, Any]) -> Iterator[None]:
    with style.context(["default", dict(settings)]), warnings.catch_warnings():
        # A name may be in any script; a box in the picture is answer enough.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def share_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis one of shares, from 0 to 1, with a little air so that lines along its ends are seen whole."""
    axes.set(**{f"{which}lim": (-0.02, 1.02), f"{which}ticks": (0, 0.2, 0.4, 0.6, 0.8, 1)})
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter("{x:g}")


def text_width(text: Text) -> float:
    """Measure how wide a text on a page is, in inches."""
    return float(text.get_window_extent().width) / DPI


def shorten(text: Text, width: float) -> None:
    """Take letters out of the middle of a text on a page until it is at most so many inches wide."""
    whole = text.get_text()

    def cut(kept: int) -> str:
        return f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}"

    def too_wide(shown: str) -> bool:
        text.set_text(shown)
        return text_width(text) > width

    if too_wide(whole):
        text.set_text(cut(bisect_left(range(1, len(whole)), True, key=lambda kept: too_wide(cut(kept)))))


# Inches: 331 units of an SVG, less than a phone is wide, so that letters are not shrunk there.
WIDTH = 4.6


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure of a report, drawn with the settings `THEMED`."""

    kind: str  # such as `shot-curve`
    target: str  # of which dataset
    label: str  # what it shows, for readers who cannot see it
    page: Page

    def inline(self, prefix: str) -> str:
        """Return the figure as an SVG element in a page's colours, without the style and fonts that belong to a page.

        The prefix of every name inside keeps the figures of one page from taking each other's shapes.
        """
        svg = self.page.svg()
        element = re.sub(r"<style[^>]*>.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
        used = {found[1] for found in re.finditer(r'(?:href="|url\()#([^")]+)', element)}
        # Only inside tags: a method may be called anything.
        element = re.sub(r"<[^>]*>", lambda tag: _themed_tag(tag[0], used, prefix), element)
        return re.sub(r">\s+<", "><", element).strip()


def _themed_tag(tag: str, used: set[str], prefix: str) -> str:
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
