"""Every figure of a report, drawn once."""

import re
from collections.abc import Iterator
from pathlib import Path

from episodes.files import write_text, written_whole
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.figures.controls import controls
from fewshot.report.figures.difference import difference
from fewshot.report.figures.groups import groups
from fewshot.report.figures.normals import normals
from fewshot.report.figures.patients import patients
from fewshot.report.figures.reliability import reliability
from fewshot.report.figures.series import Look, looks_of
from fewshot.report.figures.shot_curve import shot_curve
from fewshot.report.figures.theme import Drawing

FIGURES = "figures"


def draw(content: ReportContent) -> list[Drawing]:
    """Draw all figures that the content has numbers for; a method looks the same in all of them."""
    looks = looks_of(content.rows)
    return [drawing for target in content.targets for drawing in _draw_target(target, looks) if drawing is not None]


def _draw_target(target: TargetContent, looks: dict[str, Look]) -> Iterator[Drawing | None]:
    if target.rows:
        yield shot_curve(target, looks)
    if target.comparisons and target.answers:
        yield difference(target, looks)
    yield patients(target, looks)
    yield groups(target, looks, "sizes")
    yield groups(target, looks, "labels")
    yield normals(target, looks)
    yield reliability(target, looks)
    yield controls(target, looks)


def file_names(drawings: list[Drawing]) -> list[str]:
    """A file name for each drawing, without its ending: plain letters, and no two alike."""
    names: list[str] = []
    for drawing in drawings:
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", drawing.target).strip("-") or "dataset"
        name, count = f"{drawing.kind}-{plain}", 2
        while name in names:
            name, count = f"{drawing.kind}-{plain}-{count}", count + 1
        names.append(name)
    return names


def write_figures(folder: Path, drawings: list[Drawing]) -> list[Path]:
    """Write each drawing into `figures/` as PNG and as SVG.

    Returns:
        The files written.
    """
    paths: list[Path] = []
    for name, drawing in zip(file_names(drawings), drawings, strict=True):
        vector, pixels = (folder / FIGURES / f"{name}.{ending}" for ending in ("svg", "png"))
        write_text(vector, drawing.svg())
        with written_whole(pixels) as partial:
            partial.write_bytes(drawing.png())
        paths += [vector, pixels]
    return paths
