"""The report's page: figures, tables and sentences in one file."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from episodes.images.regions import outline
from episodes.io.files import write_text
from fewshot.plots.style import Drawing
from fewshot.report import sentences
from fewshot.report.classic import NOTE
from fewshot.report.content import ReportContent
from fewshot.report.drawings import draw, write_figures
from fewshot.report.exports import write_markdown, write_summary, write_tables
from fewshot.report.tables import TAGS, classic_table, details, overview, pair_table
from fewshot.results.numbers import TYPESET, annotated_images, counted, duration, memory, parameters
from fewshot.results.run_files import GalleryCase, mean_costs

# Speckle does not compress: 64 grey levels look the same and take half the bytes. A support image is shown small.
LEVELS, SMALL = 64, 128


@dataclass(frozen=True, slots=True)
class OutlinedImage:
    """One image with outlines over it."""

    place: str  # id of the image within the page
    width: int  # in pixels, the outlines' units
    height: int
    alt: str  # what is seen
    truth: str = ""  # outline as an SVG path; empty without one
    prediction: str = ""


@dataclass(frozen=True, slots=True)
class ShownCase:
    """One case: the supports, the query with its truth, and with the prediction too."""

    title: str
    caption: str
    supports: Sequence[OutlinedImage]
    query: OutlinedImage
    result: OutlinedImage


@dataclass
class PageImages:
    """The images of a page, each held once however often it is shown."""

    sources: list[tuple[str, int, int, str]] = field(default_factory=list)
    _places: dict[tuple[bytes, bool], str] = field(default_factory=dict)

    def case(self, case: GalleryCase) -> ShownCase:
        """Take in the images of a case."""
        query, truth, prediction = case.query, outline(case.query.mask), outline(case.prediction)
        seen = f"{query.id}, {'its lesion outlined' if truth else 'no lesion'}"
        marked = "the prediction outlined" if prediction else "nothing predicted"
        dice = "no lesion, but one is predicted" if case.dice is None else f"Dice {TYPESET.number(case.dice, 2)}"
        draw = f", draw {case.draw}" if case.draw >= 0 else ""
        whole = self._place(query.image)
        return ShownCase(
            title=f"{case.why}: {case.method}, {annotated_images(case.shot)}",
            caption=f"{dice} · {query.id} ({case.label}) · seed {case.seed}{draw}",
            supports=[
                OutlinedImage(
                    *self._place(support.image, SMALL),
                    f"support image {support.id}, its lesion outlined",
                    outline(support.mask),
                )
                for support in case.supports
            ],
            query=OutlinedImage(*whole, seen, truth),
            result=OutlinedImage(*whole, f"{seen}, {marked}", truth, prediction),
        )

    def _place(self, image: NDArray[np.uint8], longest: int | None = None) -> tuple[str, int, int]:
        """Take in an image, and return its id, width and height."""
        height, width = image.shape
        key = image.tobytes(), longest is None
        if key not in self._places:
            self._places[key] = f"image-{len(self.sources)}"
            self.sources.append((self._places[key], width, height, data_uri(image, longest)))
        return self._places[key], width, height


def data_uri(image: NDArray[np.uint8], longest: int | None = None) -> str:
    """Return grey levels (H, W) as a PNG of at most 64 of them in a `data:` address.

    It is shrunk to `longest` pixels along its longer side, unless that is None.
    """
    picture = Image.fromarray(image)
    if longest is not None and max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    step = 255 / (LEVELS - 1)
    steps = np.round(np.asarray(picture) / step).astype(np.uint8)
    reduced = Image.fromarray(steps, mode="P")
    reduced.putpalette([round(place * step) for place in range(LEVELS) for _ in range(3)])
    buffer = io.BytesIO()
    reduced.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


PAGE = "report.html"


def write_report(content: ReportContent, folder: Path) -> Path:
    """Write `report.html` and, in `figures/`, every figure as PNG and SVG; the same content gives the same bytes."""
    drawings = draw(content)
    write_figures(folder, drawings)
    write_text(folder / PAGE, render(content, drawings))
    return folder / PAGE


def render(content: ReportContent, drawings: Sequence[Drawing]) -> str:
    """Return the page as HTML. It asks the network for nothing, and forbids itself to, and runs no script."""
    figures = [
        {
            "kind": drawing.kind,
            "target": drawing.target,
            "label": drawing.label,
            "svg": Markup(drawing.inline(f"f{place}")),  # noqa: S704 - drawn here, every name in it escaped
        }
        for place, drawing in enumerate(drawings)
    ]
    images, parts = PageImages(), content.targets
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            figures=figures,
            cases={part.target: [images.case(case) for case in part.cases] for part in parts},
            images=images.sources,
            overview=overview(content),
            details={part.target: details(part) for part in parts},
            costs={part.target: mean_costs(part.costs) for part in parts},
            devices={part.target: ", ".join(dict.fromkeys(cost.device for cost in part.costs)) for part in parts},
            pairs=pair_table(content),
            classic=classic_table(content),
            classic_note=NOTE,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fewshot.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"tags": TAGS, "sentences": sentences}
    environment.filters |= {
        "number": TYPESET.number,
        "bounds": TYPESET.bounds,
        **{one.__name__: one for one in (duration, memory, parameters, annotated_images, counted, flat)},
    }
    return environment


def flat(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """List facts within facts.

    >>> list(flat({"python": "3.11", "packages": {"torch": "2.9"}, "gpu": None}))
    [('python', '3.11'), ('packages torch', '2.9'), ('gpu', '-')]
    """
    for name, value in facts.items():
        path = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from flat(value, path)
        elif isinstance(value, list | tuple):
            yield path, ", ".join(map(str, value)) or "-"
        else:
            yield path, "-" if value is None else str(value)


def write_everything(content: ReportContent, folder: Path) -> Sequence[Path]:
    """Write the page, its figures and tables, and the summary as JSON and Markdown, in place of an earlier report's.

    Returns:
        What a reader would open first: `report.html`, `summary.json` and `summary.md`; there are `figures/` and
        `tables/` beside them.
    """
    write_tables(content, folder / "tables")
    return write_report(content, folder), write_summary(folder, content), write_markdown(folder, content)
