"""`fewshot benchmark` and `fewshot report`."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot.cli.apps import app
from fewshot.cli.arguments import ConfigFile, Overrides, Wandb, new_reporter, with_tracking

if TYPE_CHECKING:
    from fewshot.report.content import ReportContent


@app.command(epilog="Example: fewshot benchmark configs/benchmark/phantom.yaml draws=3 name=quick")
def benchmark(
    config: ConfigFile,
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run of this name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    wandb: Wandb = False,
) -> None:
    """Compare methods: train on the sources, adapt to a few target images, score all the others, and report."""
    from fewshot.config import BenchmarkConfig
    from fewshot.parsing import load_config

    settings = load_config(config, BenchmarkConfig, with_tracking(overrides, wandb))
    # Takes seconds, which a wrong configuration need not wait for.
    from episodes.locks import in_turn
    from fewshot.benchmark.run import run_benchmark
    from fewshot.report.collect import RESULTS, collect

    reporter = new_reporter()
    folder = run_benchmark(settings, reporter, overwrite=overwrite)
    with reporter.step("report"):
        content = collect(folder)
    # Who began to write the report of this run a moment ago is waited for: after hours, nothing should fail here.
    _show_report(content, folder, in_turn, as_json=as_json, results=[folder / RESULTS])
    if settings.tracking == "wandb":
        from fewshot.results.table import read_table
        from fewshot.tracking.wandb_benchmark import log_benchmark

        table = read_table(folder / RESULTS)
        log_benchmark(folder, settings.name, settings.model_dump(mode="json"), table, content.rows, reporter)


@app.command(epilog="Example: fewshot report runs/phantom runs/other --out compared")
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished benchmark, or its results.parquet alone.")],
    other: Annotated[Path | None, typer.Argument(help="Another run, to compare on the same draws.")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to write; beside the results if not given.")] = None,
    against: Annotated[str | None, typer.Option(help="Print every row's difference from this one, no more.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Save a wandb Report of the runs that were logged.")] = False,
) -> None:
    """Write a benchmark's report, computed anew from its results, or that of two runs side by side."""
    if against is not None:
        _print_differences(run, against)
        return
    from episodes.locks import only_process
    from fewshot.report.collect import collect
    from fewshot.report.pairing import pair_runs

    reporter = new_reporter()
    with reporter.step("report"):
        content = collect(run) if other is None else pair_runs(run, other)
    folder = out or (run if run.is_dir() else run.parent)
    if other is not None:
        folder = out or other / f"against-{run.resolve().name}"
    _show_report(content, folder, only_process, as_json=as_json)
    if wandb:
        from fewshot.tracking.wandb_publish import publish_report

        place = run if run.is_dir() else run.parent
        sys.stderr.write(f"{publish_report(place, content.facts['benchmark'], content.rows, content.headline)}\n")


def _show_report(
    content: "ReportContent",
    folder: Path,
    lock: Callable[[Path], AbstractContextManager[None]],
    *,
    as_json: bool,
    results: Sequence[Path] = (),
) -> None:
    """Write a report's files, and print what it says."""
    from fewshot.report.tables import print_summary
    from fewshot.report.write import write_everything

    with lock(folder):
        files = write_everything(content, folder)
    if as_json:
        sys.stdout.write((folder / "summary.json").read_text())
    else:
        print_summary(content, [*results, *files])


def _print_differences(run: Path, reference: str) -> None:
    """Print every row's paired difference from one of them, and from itself without annotated images, as Markdown."""
    from fewshot.report.collect import results_file
    from fewshot.report.tables import comparison_table
    from fewshot.results.comparison import compare_rows
    from fewshot.results.index import ResultsIndex
    from fewshot.results.summary import summarise
    from fewshot.results.table import read_table

    table = ResultsIndex(read_table(results_file(run)))
    targets = sorted(table.targets)
    rows = summarise(table, targets)
    for target in targets:
        sys.stdout.write(f"{target}\n\n{comparison_table(compare_rows(table, rows, target, reference), reference)}\n")
