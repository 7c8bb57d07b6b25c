"""The command line. Heavy imports stand inside the commands, so that `fewshot --help` answers at once."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from episodes.errors import UserError

if TYPE_CHECKING:
    from fewshot.progress import Reporter

app = typer.Typer(
    help="Few-shot segmentation of breast ultrasound: which method gives the best lesion masks from 1-5 images?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets and prepare them.", no_args_is_help=True)
episodes_app = typer.Typer(help="Sample few-shot tasks.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(episodes_app, name="episodes")

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file, such as those under configs/.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, in place of what the file says.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another run of the same name.")]


def main() -> None:
    """Run the command line: status 0 done, 1 failed, 2 wrong use."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments)
    except UserError as error:
        if debug:
            raise
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted; the same command goes on from here"))
    except Exception as error:
        if debug:
            raise
        sys.exit(_say(f"{type(error).__name__}: {error}\nThis is a fault of the program; --debug shows where."))


def _say(message: str) -> int:
    for line in message.splitlines():
        sys.stderr.write(f"fewshot: {line}\n")
    return 1


@app.callback()
def _every_command(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,  # noqa: ARG001
) -> None:
    """Options of every command; `--debug` is taken from the command line before it gets here."""


@app.command(epilog="Example: fewshot benchmark configs/benchmark/phantom.yaml draws=3")
def benchmark(config: ConfigPath, overrides: Overrides = None, overwrite: Overwrite = False) -> None:
    """Compare methods: train them on the sources, adapt to a few target images, score all the others."""
    from fewshot.benchmark import run_benchmark
    from fewshot.config import BenchmarkConfig, load_config
    from fewshot.results import read_table
    from fewshot.summary import answer, summarise
    from fewshot.tables import markdown_table, terminal_table

    settings = load_config(config, BenchmarkConfig, overrides or ())
    reporter = _reporter()
    folder = run_benchmark(settings, reporter, overwrite=overwrite)
    table = read_table(folder / "results.parquet")
    rows = summarise(table, settings.targets)
    ...


@app.command(epilog="Example: fewshot train configs/train/panet.yaml train.steps=500 seed=1")
def train(config: ConfigPath, overrides: Overrides = None) -> None:
    """Train one model on the source datasets, and write a checkpoint."""
    from fewshot.config import TrainConfig, load_config
    from fewshot.training import train as train_model

    settings = load_config(config, TrainConfig, overrides or ())
    path = train_model(settings, settings.runs / settings.name, _reporter())
    sys.stdout.write(f"{path}\n")


def _reporter() -> "Reporter":
    from fewshot.progress import Reporter

    reporter = Reporter()
    handler: Any = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return reporter


_ = json
