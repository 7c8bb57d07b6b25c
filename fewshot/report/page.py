"""The report's page: figures, tables and sentences in one file."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from episodes.images.regions import outline
from episodes.io.files import write_text
from fewshot.plots.style import Drawing
from fewshot.report.classic import NOTE as CLASSIC_NOTE
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.drawings import draw, write_figures
from fewshot.report.exports import write_markdown, write_summary, write_tables
from fewshot.report.score_rows import details, overview
from fewshot.report.sentences import how_sure, what_annotating_brings
from fewshot.report.sheets import classic_sheet, pair_sheet
from fewshot.results import tables as wording
from fewshot.results.costs import mean_costs
from fewshot.results.gallery import Annotated, GalleryCase
from fewshot.results.tables import annotated, number

# Speckle does not compress: 64 grey levels look the same and take half the bytes. A support image is shown small.
LEVELS, SMALL = 64, 128


@dataclass(frozen=True, slots=True)
class Picture:
    """One image with outlines over it.

    Attributes:
        place: id of the image within the page.
        width: in pixels; outlines are in these units.
        height: likewise.
        alt: what is seen.
        truth: outline as an SVG path; empty without one.
        prediction: likewise.
    """

    place: str
    width: int
    height: int
    alt: str
    truth: str = ""
    prediction: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One case: the supports, the query with its truth, and with the prediction too."""

    title: str
    caption: str
    supports: Sequence[Picture]
    query: Picture
    result: Picture


@dataclass
class Pictures:
    """The images of a page, each held once however often it is shown.

    Attributes:
        sources: (id, width, height, data URI) in the order they were first shown.
    """

    sources: list[tuple[str, int, int, str]] = field(default_factory=list)
    _places: dict[tuple[bytes, bool], str] = field(default_factory=dict)

    def case(self, case: GalleryCase) -> Shown:
        """Take in the images of a case."""
        query = case.query
        (height, width), place = query.image.shape, self._place(query.image, small=False)
        truth, prediction = outline(query.mask), outline(case.prediction)
        seen = "its lesion outlined" if truth else "no lesion"
        marked = "the prediction outlined" if prediction else "nothing predicted"
        return Shown(
            title=_title(case),
            caption=_caption(case),
            supports=[self._support(support) for support in case.supports],
            query=Picture(place, width, height, f"{query.id}, {seen}", truth),
            result=Picture(place, width, height, f"{query.id}, {seen}, {marked}", truth, prediction),
        )

    def _support(self, support: Annotated) -> Picture:
        height, width = support.image.shape
        place = self._place(support.image, small=True)
        return Picture(place, width, height, f"support image {support.id}, its lesion outlined", outline(support.mask))

    def _place(self, image: NDArray[np.uint8], *, small: bool) -> str:
        key = (image.tobytes(), small)
        if key not in self._places:
            self._places[key] = f"image-{len(self.sources)}"
            height, width = image.shape
            self.sources.append((self._places[key], width, height, data_uri(image, SMALL if small else None)))
        return self._places[key]


def data_uri(image: NDArray[np.uint8], longest: int | None = None) -> str:
    """An image as a PNG of at most 64 grey levels in a `data:` address.

    Args:
        image: grey levels, (H, W).
        longest: shrink it to this many pixels along its longer side; None leaves it as it is.
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


def _title(case: GalleryCase) -> str:
    return f"{case.why}: {case.method}, {annotated(case.shot)}"


def _caption(case: GalleryCase) -> str:
    dice = "no lesion, but one is predicted" if case.dice is None else f"Dice {number(case.dice, 2)}"
    draw = f", draw {case.draw}" if case.draw >= 0 else ""
    return f"{dice} · {case.query.id} ({case.label}) · seed {case.seed}{draw}"


PAGE = "report.html"


def write_report(content: ReportContent, folder: Path) -> Path:
    """Write `report.html` and, in `figures/`, every figure as PNG and SVG; the same content gives the same bytes.

    Args:
        content: what to say.
        folder: made where it is missing.

    Returns:
        The page.
    """
    drawings = draw(content)
    write_figures(folder, drawings)
    write_text(folder / PAGE, _render(content, drawings))
    return folder / PAGE


def render(content: ReportContent) -> str:
    """The page as HTML. It asks the network for nothing, and forbids itself to, and runs no script."""
    return _render(content, draw(content))


@dataclass(frozen=True, slots=True)
class _Figure:
    """A drawing as the templates take it."""

    kind: str
    target: str
    label: str
    svg: Markup


def _render(content: ReportContent, drawings: Sequence[Drawing]) -> str:
    figures = [
        # Drawn here, every name in it escaped.
        _Figure(drawing.kind, drawing.target, drawing.label, Markup(drawing.inline(f"f{place}")))  # noqa: S704
        for place, drawing in enumerate(drawings)
    ]
    pictures = Pictures()
    cases = {target.target: [pictures.case(case) for case in target.cases] for target in content.targets}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            figures=figures,
            cases=cases,
            images=pictures.sources,
            overview=overview(content),
            details={target.target: details(target) for target in content.targets},
            costs={target.target: mean_costs(target.costs) for target in content.targets},
            devices={target.target: _devices(target) for target in content.targets},
            pairs=pair_sheet(content),
            classic=classic_sheet(content),
            classic_note=CLASSIC_NOTE,
        )
    )


def _devices(target: TargetContent) -> str:
    return ", ".join(dict.fromkeys(cost.device for cost in target.costs))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fewshot.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"how_sure": how_sure, "what_annotating_brings": what_annotating_brings}
    shown = ("number", "brackets", "percent", "duration", "memory", "weights", "annotated", "flat")
    environment.filters |= {name: getattr(wording, name) for name in shown}
    return environment


def write_everything(content: ReportContent, folder: Path) -> Sequence[Path]:
    """Write the page, its figures and tables, and the summary as JSON and Markdown.

    Args:
        content: what to say.
        folder: made where it is missing; files of an earlier report are replaced.

    Returns:
        What a reader would open first: `report.html`, `summary.json` and `summary.md`; there are `figures/` and
        `tables/` beside them.
    """
    write_tables(content, folder / "tables")
    return write_report(content, folder), write_summary(folder, content), write_markdown(folder, content)
