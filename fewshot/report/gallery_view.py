"""Cases to look at, as pictures that a page holds inside itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewshot.benchmark.gallery import Annotated, GalleryCase
from fewshot.report.figures.outlines import outline
from fewshot.report.wording import annotated, number

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
