"""Figures that follow the page they stand in: its ink, its paper, light or dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from matplotlib.figure import Figure

from fewshot.figures.style import DPI, STYLE, Page, styled

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
