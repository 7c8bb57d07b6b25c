"""A report as one page that holds everything inside itself: numbers, figures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from episodes.files import write_text
from fewshot.report import wording
from fewshot.report.cards import how_sure, what_annotating_brings
from fewshot.report.classic import NOTE as CLASSIC_NOTE
from fewshot.report.content import ReportContent, TargetContent
from fewshot.report.cost_rows import mean_costs
from fewshot.report.drawings import draw, write_figures
from fewshot.report.figures.theme import Drawing
from fewshot.report.gallery_view import Pictures
from fewshot.report.score_rows import details, overview
from fewshot.report.sheets.differences import pair_sheet
from fewshot.report.sheets.scores import classic_sheet

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
