"""A Report of wandb that compares numbers of shots: the runs that `log_benchmark` logs, beside a table of our own."""

import math
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from episodes.errors import UserError
from fewshot.report.markdown import table_lines
from fewshot.report.sheets.sheet import or_dash
from fewshot.results.summary import Row, show
from fewshot.tracking.wandb_values import DICE

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import Report

# What the table of runs begins with; the rest is a click away.
RUN_COLUMNS = ["config:method.value", "config:shot.value", "config:seed.value", f"summary:{DICE}"]
TABLE_COLUMNS = ("K", "method", "lesion Dice [95 %]", "IoU", "HD95", "normals with a false lesion")
WIDTH = 24  # of a grid of panels, in the service's units
EVERY_RUN = 1000  # panels show ten otherwise


def build_report(entity: str, project: str, benchmark: str, rows: Sequence[Row], headline: str) -> "Report":
    """Build the report, without any network request.

    For every dataset it has the project's table, shot curves per method with their spread over training seeds, the ends
    of the intervals, all scores, cases to look at, and all rows at the largest number of shots; then the trainings.

    Args:
        entity: user or team that the report will belong to.
        project: of the runs.
        benchmark: their group.
        rows: of the benchmark.
        headline: the answer, in a sentence.

    Raises:
        UserError: if the library of reports is not installed.
    """
    wr = _library("wandb_workspaces.reports.v2")
    blocks = [wr.H1("The answer"), wr.P(headline), wr.TableOfContents()]
    for target in dict.fromkeys(row.target for row in rows):
        blocks += _target_blocks(wr, benchmark, [row for row in rows if row.target == target])
    report: Report = wr.Report(
        project=project,
        entity=entity,
        title=f"Lesion Dice over annotated images, {benchmark}"[:128],  # as long as a title may be
        description=headline,
        blocks=[*blocks, wr.H1("Trainings"), _training_grid(wr, benchmark)],
        width="fluid",
    )
    return report


def summary_table(rows: Sequence[Row]) -> str:
    """Rows of one target as Markdown."""
    names = ("iou", "hd95", "false_positive")
    cells = (
        [str(row.shot), row.method, show(row.dice), *(or_dash(row.scores.get(name, math.nan)) for name in names)]
        for row in rows
    )
    return "\n".join(table_lines(TABLE_COLUMNS, cells, words={1}))


def _library(module: str) -> Any:
    """A module of the library of reports, which exports its classes in a way that type checkers do not see."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of its own code
            return import_module(module)
    except ImportError as error:
        raise UserError(
            'wandb reports need a library of their own; install it: pip install "fewshot-bus[report]"'
        ) from error


def _target_blocks(wr: Any, benchmark: str, rows: Sequence[Row]) -> list[Any]:
    target, most = rows[0].target, max(row.shot for row in rows)
    images = "no annotated image" if most == 0 else "1 annotated image" if most == 1 else f"{most} annotated images"
    curves = _runset(wr, target, benchmark, target=target, control="none")
    at_most = _runset(wr, f"{target}, {most}-shot", benchmark, target=target, shot=most)
    return [
        wr.H1(target),
        wr.MarkdownBlock(summary_table(rows)),
        wr.H2("Shot curves"),
        wr.P("Lines are means over training seeds, and bands go from the lowest seed to the highest. No controls."),
        wr.PanelGrid(runsets=[curves], panels=[*_curves(wr), *_details(wr)]),
        wr.H2(f"Every method with {images}"),
        wr.PanelGrid(runsets=[at_most], panels=[_bars(wr)]),
    ]


def _runset(wr: Any, name: str, benchmark: str, job_type: str = "benchmark", **config: str | int) -> Any:
    """The runs of a benchmark with certain values in their configuration.

    It belongs to the report's own project; one with an entity of its own is looked up when it is built.
    """
    expr = _library("wandb_workspaces.expr")
    filters = [expr.Metric("Group") == benchmark, expr.Metric("JobType") == job_type]
    filters += [expr.Config(key) == value for key, value in config.items()]
    chosen = expr.And(*filters)
    return wr.Runset(name=name, filters=chosen, order=[wr.OrderBy("Name", ascending=True)], pinned_columns=RUN_COLUMNS)


def _curves(wr: Any) -> list[Any]:
    titles = {
        "Lesion Dice over annotated images": [DICE],
        "Ends of its 95 % interval over patients and draws": [f"{DICE}_low", f"{DICE}_high"],
    }
    return [
        wr.LinePlot(
            title=title,
            x="shot",
            y=metrics,
            title_x="annotated images",
            title_y="lesion Dice",
            groupby=wr.Config("method"),
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=EVERY_RUN,
            layout=wr.Layout(place * WIDTH // 2, 0, WIDTH // 2, 12),
        )
        for place, (title, metrics) in enumerate(titles.items())
    ]


def _details(wr: Any) -> list[Any]:
    scores = (DICE, "iou", "nsd", "hd95", "false_positive")
    axes = [wr.Config("method"), wr.Config("shot"), *map(wr.SummaryMetric, scores)]
    return [
        wr.ParallelCoordinatesPlot(
            title="All scores",
            columns=[wr.ParallelCoordinatesPlotColumn(axis) for axis in axes],
            layout=wr.Layout(0, 12, WIDTH, 10),
        ),
        wr.MediaBrowser(
            title="Cases: truth and prediction can be switched on and off",
            media_keys=["cases"],
            num_columns=4,
            layout=wr.Layout(0, 22, WIDTH, 12),
        ),
        wr.RunComparer(diff_only="split", layout=wr.Layout(0, 34, WIDTH, 10)),
    ]


def _bars(wr: Any) -> Any:
    return wr.BarPlot(
        title="Lesion Dice",
        metrics=[DICE],
        groupby=wr.Config("method"),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=EVERY_RUN,
        max_bars_to_show=100,
        layout=wr.Layout(0, 0, WIDTH, 12),
    )


def _training_grid(wr: Any, benchmark: str) -> Any:
    curves = {"Training loss": "loss", "Validation loss": "validation"}
    panels = [
        wr.LinePlot(title=title, x="Step", y=[metric], layout=wr.Layout(place * WIDTH // 2, 0, WIDTH // 2, 10))
        for place, (title, metric) in enumerate(curves.items())
    ]
    return wr.PanelGrid(runsets=[_runset(wr, "trainings", benchmark, "train")], panels=panels)
