"""Saving a report with wandb, which needs a login and the service."""

import json
import logging
import math
import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import UserError
from episodes.io.files import write_text
from fewshot.results.summary import Row, show
from fewshot.results.tables import or_dash, table_lines
from fewshot.tracking.wandb_run import (
    DICE,
    logged_in,
    sync_command,
    waiting_runs,
    wandb_environment,
    wandb_folder,
    wandb_project,
)

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


logger = logging.getLogger(__name__)


def publish_report(folder: Path, benchmark: str, rows: Sequence[Row], headline: str) -> str:
    """Save a report about a benchmark that was logged; a second call replaces it.

    Args:
        folder: of the run.
        benchmark: the group of its runs.
        rows: of the benchmark.
        headline: the answer, in a sentence.

    Returns:
        Where it is.

    Raises:
        UserError: without a login, without the library of reports, or where the service does not answer.
    """
    build_report("nobody", wandb_project(), benchmark, rows, headline)  # what is not installed is known before
    with wandb_environment(folder):
        if not logged_in():
            raise UserError(
                "wandb: there is no login, which a report needs; run `wandb login`, then this command again"
                + (f"; the runs were logged offline, so upload them: {sync_command(folder)}" if _waits(folder) else "")
            )
        if _waits(folder):
            logger.warning("wandb: runs that are not uploaded are missing in the report: %s", sync_command(folder))
        try:
            return _save(folder, benchmark, rows, headline)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise UserError(f"wandb: the report was not saved ({reason}); see `wandb status`, and try again") from error


def _waits(folder: Path) -> bool:
    return bool(waiting_runs(folder))


def _save(folder: Path, benchmark: str, rows: Sequence[Row], headline: str) -> str:
    import wandb

    entity = os.environ.get("WANDB_ENTITY") or wandb.Api().default_entity
    if entity is None:
        raise UserError("the login belongs to no user or team; set WANDB_ENTITY")
    report = build_report(entity, wandb_project(), benchmark, rows, headline)
    place = wandb_folder(folder) / "report.json"
    known: dict[str, str] = json.loads(place.read_text()) if place.is_file() else {}
    key = f"{entity}/{wandb_project()}"
    report.id = known.get(key, "")
    report.save()
    write_text(place, json.dumps(known | {key: report.id}, indent=1) + "\n")
    url: str = report.url
    return url
