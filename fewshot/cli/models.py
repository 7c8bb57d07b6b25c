"""Commands that train, evaluate and compare: train, finetune, evaluate, benchmark, report."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fewshot.cli.arguments import (
    Cache,
    ConfigFile,
    Dataset,
    InvertMasks,
    Method,
    MethodOptions,
    Overrides,
    Support,
    Trained,
    Trust,
    Wandb,
    app,
    new_reporter,
    with_tracking,
)

if TYPE_CHECKING:
    from fewshot.report.content import ReportContent


@app.command(epilog="Example: fewshot train configs/train/panet.yaml train.steps=500 seed=1")
def train(config: ConfigFile, overrides: Overrides = None, wandb: Wandb = False) -> None:
    """Train one model on the source datasets and write its checkpoint.

    Several processes train together under torchrun: torchrun --nproc-per-node 4 -m fewshot train CONFIG
    """
    from fewshot.config.parsing import load_config
    from fewshot.config.training import TrainConfig

    settings = load_config(config, TrainConfig, with_tracking(overrides, wandb))
    from fewshot.tracking.wandb_run import training_listener
    from fewshot.training.run import train as train_model

    folder, listener = settings.runs / settings.name, training_listener(settings.tracking)
    sys.stdout.write(f"{train_model(settings, folder, new_reporter(), listener=listener)}\n")


@app.command(epilog="Example: fewshot finetune unet.safetensors --support my_images/ --shots 5 --out mine.safetensors")
def finetune(
    checkpoint: Annotated[Path, typer.Argument(help="What `fewshot train` wrote, of a supervised model.")],
    support: Annotated[Path, typer.Option(help="A folder with images/ and masks/ of equal names.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    overrides: Overrides = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of the images, the first by name.")] = None,
    invert_masks: InvertMasks = False,
    trust: Trust = None,
    wandb: Wandb = False,
) -> None:
    """Go on training a supervised model on a few annotated images."""
    from fewshot.training.finetuning import finetune_checkpoint

    listener = None
    if wandb:
        from fewshot.tracking.wandb_run import log_finetuning

        listener = partial(log_finetuning, checkpoint)
    path = finetune_checkpoint(
        checkpoint,
        support,
        out,
        overrides or (),
        new_reporter(),
        shots,
        listener,
        trust or (),
        invert_masks=invert_masks,
    )
    sys.stdout.write(f"{path}\n")


@app.command(epilog="Example: fewshot evaluate unet.safetensors --data data/BUS-UCLM -d bus_uclm --out judged")
def evaluate(
    checkpoint: Trained,
    data: Annotated[Path, typer.Option(help="The dataset's folder, as distributed.")],
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    overrides: MethodOptions = None,
    name: Annotated[str | None, typer.Option(help="What the results call it; the reader's name if not given.")] = None,
    part: Annotated[
        Literal["test", "all"], typer.Option(help="What the model has not seen in training, or everything.")
    ] = "test",
    method: Method = None,
    support: Support = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of them, the first by name.")] = None,
    invert_masks: InvertMasks = False,
    also: Annotated[list[Path] | None, typer.Option(help="A further checkpoint; their mean is judged.")] = None,
    trust: Trust = None,
    cache: Cache = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
    wandb: Wandb = False,
) -> None:
    """Judge a model on one dataset: scores with intervals, ROC, calibration, confusion, best and worst masks."""
    from fewshot.config.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from fewshot.evaluate.run import EvaluationRequest, evaluate_checkpoints

    request = EvaluationRequest(
        checkpoints=(checkpoint, *(also or ())),
        data=data,
        reader=dataset,
        name=name,
        part=part,
        method=method,
        options=options,
        support=support,
        shots=shots,
        invert_masks=invert_masks,
        trust=trust or (),
        cache=cache,
    )
    listener = None
    if wandb:
        from fewshot.tracking.wandb_results import log_evaluation

        listener = log_evaluation
    evaluate_checkpoints(request, out, new_reporter(), overwrite=overwrite, listener=listener)
    sys.stdout.write((out / ("evaluation.json" if as_json else "evaluation.md")).read_text("utf-8"))
    if not as_json:
        sys.stdout.write(f"\n{out}\n")


@app.command(epilog="Example: fewshot benchmark configs/benchmark/phantom.yaml draws=3 name=quick")
def benchmark(
    config: ConfigFile,
    overrides: Overrides = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run of this name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    wandb: Wandb = False,
) -> None:
    """Compare methods: train on the sources, adapt to a few target images, score all the others, and report."""
    from fewshot.config.benchmark import BenchmarkConfig
    from fewshot.config.parsing import load_config

    settings = load_config(config, BenchmarkConfig, with_tracking(overrides, wandb))
    # Takes seconds, which a wrong configuration need not wait for.
    from episodes.io.locks import waiting_lock
    from fewshot.benchmark.run import run_benchmark
    from fewshot.report.collect import collect
    from fewshot.results.run_files import RESULTS
    from fewshot.tracking.wandb_run import training_listener

    reporter = new_reporter()
    folder = run_benchmark(settings, reporter, overwrite=overwrite, listener=training_listener(settings.tracking))
    with reporter.step("report"):
        content = collect(folder)
    # Who began to write the report of this run a moment ago is waited for: after hours, nothing should fail here.
    _show_report(content, folder, waiting_lock, as_json=as_json, results=[folder / RESULTS])
    if settings.tracking.to == "wandb":
        from fewshot.results.rows import read_table
        from fewshot.tracking.wandb_results import log_benchmark

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
    from episodes.io.locks import exclusive_lock
    from fewshot.report.collect import collect
    from fewshot.report.pairing import pair_runs

    reporter = new_reporter()
    with reporter.step("report"):
        content = collect(run) if other is None else pair_runs(run, other)
    folder = out or (run if run.is_dir() else run.parent)
    if other is not None:
        folder = out or other / f"against-{run.resolve().name}"
    _show_report(content, folder, exclusive_lock, as_json=as_json)
    if wandb:
        from fewshot.tracking.wandb_results import publish_report

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
    from fewshot.report.exports import print_summary
    from fewshot.report.page import write_everything

    with lock(folder):
        files = write_everything(content, folder)
    if as_json:
        sys.stdout.write((folder / "summary.json").read_text("utf-8"))
    else:
        print_summary(content, [*results, *files])


def _print_differences(run: Path, reference: str) -> None:
    """Print every row's paired difference from one of them, and from itself without annotated images, as Markdown."""
    from fewshot.report.exports import differences_table
    from fewshot.results.comparison import compare_rows
    from fewshot.results.index import ResultsIndex
    from fewshot.results.rows import read_table
    from fewshot.results.run_files import results_file
    from fewshot.results.summary import summarise

    table = ResultsIndex(read_table(results_file(run)))
    targets = sorted(table.targets)
    rows = summarise(table, targets)
    for target in targets:
        differences = differences_table(compare_rows(table, rows, target, reference), reference)
        sys.stdout.write(f"{target}\n\n{differences.markdown(raw=True)}\n")
