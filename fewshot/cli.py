"""The command line. Heavy imports stand inside the commands, so that `fewshot --help` answers at once."""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from episodes.errors import UserError

if TYPE_CHECKING:
    from fewshot.config import Tracking
    from fewshot.progress import Reporter
    from fewshot.report.content import ReportContent

INTERRUPTED = 130  # what typer makes of Ctrl-C, and shells expect

app = typer.Typer(
    help="Few-shot segmentation of breast ultrasound: which method gives the best lesion masks from 1-5 images?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Check datasets, prepare them, generate phantoms.", no_args_is_help=True)
episodes_app = typer.Typer(help="Sample few-shot tasks.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(episodes_app, name="episodes")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; configs/ has some to copy.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...", help="In place of what the file says.")
]
Root = Annotated[Path, typer.Argument(help="The dataset's folder, as distributed.")]
Wandb = Annotated[
    bool, typer.Option("--wandb", help="Log to Weights & Biases as well; without a login, to files for `wandb sync`.")
]


def _known_reader(name: str) -> str:
    from episodes.datasets import find_reader

    return _known(name, find_reader)


def _known_scanner(name: str) -> str:
    from episodes.phantoms.scanners import scanner_named

    return _known(name, scanner_named)


def _known(name: str, find: Callable[[str], object]) -> str:
    try:
        find(name)
    except UserError as error:
        raise typer.BadParameter(str(error)) from error
    return name


Dataset = Annotated[
    str, typer.Option("--dataset", "-d", help="Its reader: a name, or module:function.", callback=_known_reader)
]


class Layout(StrEnum):
    """The forms in which phantoms are written."""

    FOLDER = "folder"
    BUSI = "busi"
    BUS_UCLM = "bus_uclm"
    UDIAT = "udiat"


class Part(StrEnum):
    """What of a dataset a model is judged on."""

    TEST = "test"
    ALL = "all"


def main() -> None:
    """Run the command line: status 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    # --debug is good anywhere on the line, before or after the command.
    debug = "--debug" in sys.argv
    sys.path.insert(0, str(Path.cwd()))  # where a user's own module:attribute lies
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _complain("interrupted; the same command goes on from here")
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, UserError | OSError):
            _complain(str(error))
        else:
            _complain(f"{type(error).__name__}: {error} (a fault of the program; --debug shows where)")
        sys.exit(error.status if isinstance(error, UserError) else 1)


def _complain(message: str) -> None:
    for line in message.splitlines():
        sys.stderr.write(f"fewshot: {line}\n")


@app.callback()
def _options_of_every_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    del debug  # taken from the line by `main`; it stands here for --help


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

    settings = load_config(config, BenchmarkConfig, _with_tracking(overrides, wandb))
    # Takes seconds, which a wrong configuration need not wait for.
    from fewshot.benchmark.run import run_benchmark
    from fewshot.report.collect import collect

    reporter = _reporter()
    folder = run_benchmark(settings, reporter, overwrite=overwrite)
    with reporter.step("report"):
        content = collect(folder)
    _show_report(content, folder, as_json=as_json, results=[folder / "results.parquet"])
    if settings.tracking == "wandb":
        from fewshot.results.table import read_table
        from fewshot.tracking.wandb_benchmark import log_benchmark

        table, rows = read_table(folder / "results.parquet"), [row for part in content.targets for row in part.rows]
        log_benchmark(folder, settings.name, settings.model_dump(mode="json"), table, rows, reporter)


@app.command(epilog="Example: fewshot train configs/train/panet.yaml train.steps=500 seed=1")
def train(config: ConfigFile, overrides: Overrides = None, wandb: Wandb = False) -> None:
    """Train one model on the source datasets and write its checkpoint.

    Several processes train together under torchrun: torchrun --nproc-per-node 4 -m fewshot train CONFIG
    """
    from fewshot.config import TrainConfig
    from fewshot.parsing import load_config

    settings = load_config(config, TrainConfig, _with_tracking(overrides, wandb))
    from fewshot.training import train as train_model

    sys.stdout.write(f"{train_model(settings, settings.runs / settings.name, _reporter())}\n")


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
    from fewshot.report.collect import collect
    from fewshot.report.pairing import pair_runs

    reporter = _reporter()
    with reporter.step("report"):
        content = collect(run) if other is None else pair_runs(run, other)
    folder = out or (run if run.is_dir() else run.parent)
    if other is not None:
        folder = out or other / f"against-{run.resolve().name}"
    _show_report(content, folder, as_json=as_json)
    if wandb:
        from fewshot.tracking.wandb_publish import publish_report

        rows = [row for part in content.targets for row in part.rows]
        place = run if run.is_dir() else run.parent
        sys.stderr.write(f"{publish_report(place, content.facts['benchmark'], rows, content.headline)}\n")


def _show_report(content: "ReportContent", folder: Path, *, as_json: bool, results: Sequence[Path] = ()) -> None:
    """Write a report's files, and print what it says."""
    from fewshot.report.write import write_everything
    from fewshot.tables import print_summary

    files = write_everything(content, folder)
    if as_json:
        sys.stdout.write((folder / "summary.json").read_text())
    else:
        print_summary(content, [*results, *files])


def _print_differences(run: Path, reference: str) -> None:
    """Print every row's paired difference from one of them, and from itself without annotated images, as Markdown."""
    from fewshot.report.collect import RESULTS
    from fewshot.results.comparison import compare_rows
    from fewshot.results.index import ResultsIndex
    from fewshot.results.summary import summarise
    from fewshot.results.table import read_table
    from fewshot.tables import comparison_table

    table = ResultsIndex(read_table(run / RESULTS if run.is_dir() or not run.suffix else run))
    targets = sorted(table.targets)
    rows = summarise(table, targets)
    for target in targets:
        sys.stdout.write(f"{target}\n\n{comparison_table(compare_rows(table, rows, target, reference), reference)}\n")


@app.command(epilog="Example: fewshot finetune unet.safetensors --support my_images/ --shots 5 --out mine.safetensors")
def finetune(
    checkpoint: Annotated[Path, typer.Argument(help="What `fewshot train` wrote, of a supervised model.")],
    support: Annotated[Path, typer.Option(help="A folder with images/ and masks/ of equal names.")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write.")],
    overrides: Overrides = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of the images, the first by name.")] = None,
    wandb: Wandb = False,
) -> None:
    """Go on training a supervised model on a few annotated images."""
    from fewshot.finetuning import finetune_checkpoint

    tracking: Tracking = "wandb" if wandb else "local"
    path = finetune_checkpoint(checkpoint, support, out, overrides or (), _reporter(), shots, tracking)
    sys.stdout.write(f"{path}\n")


@app.command(epilog="Example: fewshot evaluate unet.safetensors --data data/BUS-UCLM -d bus_uclm --out judged")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="What `fewshot train` or `fewshot finetune` wrote.")],
    data: Annotated[Path, typer.Option(help="The dataset's folder, as distributed.")],
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the method, such as flips=true.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name in training; found by its folder if not given.")] = None,
    part: Annotated[Part, typer.Option(help="What the model has not seen in training, or everything.")] = Part.TEST,
    method: Annotated[str | None, typer.Option(help="How the model is used; what goes with it if not given.")] = None,
    support: Annotated[Path | None, typer.Option(help="Annotated images to adapt to: images/ and masks/.")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of them, the first by name.")] = None,
    also: Annotated[list[Path] | None, typer.Option(help="A further checkpoint; their mean is judged.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
    wandb: Wandb = False,
) -> None:
    """Judge a model on one dataset: scores with intervals, ROC, calibration, confusion, best and worst masks."""
    from fewshot.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from fewshot.assessment.run import Request, evaluate_checkpoints

    request = Request(
        checkpoints=(checkpoint, *(also or ())),
        data=data,
        reader=dataset,
        name=name,
        part=part.value,
        method=method,
        options=options,
        support=support,
        shots=shots,
    )
    tracking: Tracking = "wandb" if wandb else "local"
    evaluate_checkpoints(request, out, _reporter(), overwrite=overwrite, tracking=tracking)
    sys.stdout.write((out / ("evaluation.json" if as_json else "evaluation.md")).read_text())
    if not as_json:
        sys.stdout.write(f"\n{out}\n")


@data_app.command(epilog="Example: fewshot data check data/Dataset_BUSI_with_GT --dataset busi")
def check(
    root: Root,
    dataset: Dataset,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Read every file of a dataset and list what looks wrong."""
    from episodes.curation import check as check_records
    from episodes.datasets import read_dataset
    from fewshot.tables import print_check

    reporter = _reporter()
    with reporter.step(f"check {dataset}") as progress:
        report = check_records(read_dataset(dataset, root), root, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    else:
        print_check(report)


@data_app.command(epilog="Example: fewshot data prepare data/BUS-UCLM --dataset bus_uclm --size 256")
def prepare(
    root: Root,
    dataset: Dataset,
    size: Annotated[int, typer.Option(min=32, help="Working size: height and width in pixels.")] = 256,
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the reader's if not given.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where stores lie; the user's cache if not given.")] = None,
) -> None:
    """Decode a dataset once, so that everything after it reads memory-mapped arrays."""
    from fewshot.config import DataConfig
    from fewshot.data import open_store
    from fewshot.parsing import parse_config

    name = name or dataset.partition(":")[0]
    tree = {"datasets": {name: {"reader": dataset, "root": root}}, "image_size": size, "cache": cache}
    store = open_store(parse_config(tree, DataConfig, "data prepare"), name, _reporter())
    sys.stdout.write(f"{store.folder}: {len(store.records)} images\n")


@data_app.command(epilog="Example: fewshot data generate phantoms/ --scanner linear --images 100")
def generate(
    root: Annotated[Path, typer.Argument(help="The folder to write; it must not exist yet.")],
    scanner: Annotated[str, typer.Option(help="The machine: linear, highfreq or portable.", callback=_known_scanner)],
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other patients.")] = 0,
    layout: Annotated[Layout, typer.Option(help="In the form of which dataset.")] = Layout.FOLDER,
) -> None:
    """Write a phantom dataset: B-mode images made from tissue models, with exact masks."""
    from episodes import phantoms
    from fewshot.progress import counted

    if root.exists():
        raise UserError(f"{root}: exists already; give a folder that does not, so that nothing is overwritten")
    spec = phantoms.PhantomSpec(scanner, images, seed)
    writer = getattr(phantoms, f"write_{layout.value}")
    with _reporter().step(f"generate {images} images") as progress:
        options = {"spec": spec} if layout is Layout.FOLDER else {}
        writer(counted(phantoms.generate(spec), images, progress), root, **options)
    sys.stdout.write(f"{root}\n")


@episodes_app.command(epilog="Example: fewshot episodes sample configs/data/episodes.yaml tasks.jsonl --count 1000")
def sample(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="The manifest to write, JSON lines.")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing manifest.")] = False,
) -> None:
    """Sample episodes and write them down, so that others can be measured on the same ones."""
    from fewshot.config import SampleConfig
    from fewshot.parsing import load_config

    settings = load_config(config, SampleConfig, overrides or ())
    from episodes.manifest import write_manifest
    from fewshot.data import open_collection
    from fewshot.episodic import episode_sampler

    collection = open_collection(settings, settings.datasets, _reporter())
    sampler = episode_sampler(collection, settings.episodes, settings.seed)
    specs = sampler.specs(0, count)
    write_manifest(out, specs, collection.records, overwrite=overwrite, **sampler.parameters)
    sys.stdout.write(f"{out}: {count} episodes\n")


def _with_tracking(overrides: list[str] | None, wandb: bool) -> list[str]:
    """A configuration's overrides, in which --wandb has the last word."""
    return [*(overrides or ()), *(["tracking=wandb"] if wandb else [])]


def _reporter() -> "Reporter":
    """The reporter of this call; from here on the project's own log messages are shown, each once."""
    from fewshot.progress import Reporter, show_messages

    reporter = Reporter()
    show_messages(reporter.console, logging.INFO)
    return reporter
