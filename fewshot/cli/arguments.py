"""The command line's groups of commands, and arguments that several of them have."""

import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from episodes.curation import policy
from episodes.errors import UserError

if TYPE_CHECKING:
    from fewshot.terminal import Reporter


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
Trained = Annotated[Path, typer.Argument(help="What `fewshot train` or `fewshot finetune` wrote.")]
Root = Annotated[Path, typer.Argument(help="The dataset's folder, as distributed.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="A module that a checkpoint's network module:Class may be of; repeatable."),
]
Wandb = Annotated[
    bool, typer.Option("--wandb", help="Log to Weights & Biases as well; without a login, to files for `wandb sync`.")
]
Method = Annotated[str | None, typer.Option(help="How the model is used; what goes with it if not given.")]
Support = Annotated[Path | None, typer.Option(help="Annotated images to adapt to: images/ and masks/.")]
InvertMasks = Annotated[bool, typer.Option("--invert-masks", help="The masks have a light ground and dark lesions.")]
MethodOptions = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the method, such as steps=60.")
]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, ...")]
DatasetName = Annotated[str | None, typer.Option(help="Its name in configurations; the reader's if not given.")]
Cache = Annotated[Path | None, typer.Option(help="Where stores lie; the user's cache if not given.")]
Duplicates = Annotated[
    policy.Duplicates,
    typer.Option(
        help="Near-duplicates: group keeps them as one patient's, keep-first keeps one of each group, drop-all none;"
        " where their labels contradict each other, none is ever kept."
    ),
]
Doppler = Annotated[policy.Doppler, typer.Option(help="Images that the dataset says to have a Doppler overlay.")]
Curated = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A text file of the only images to use, one name a line.")
]
Corrections = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A YAML file of known mistakes; configs/curation/ has some.")
]


def found_by(module: str, find: str) -> Callable[[str], str]:
    """Make the check of an option: a name that a module's function `find` finds. It is imported when it is needed."""

    def check(name: str) -> str:
        try:
            getattr(import_module(module), find)(name)
        except UserError as error:
            raise typer.BadParameter(str(error)) from error
        return name

    return check


Dataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help="Its reader: a name, or module:function.",
        callback=found_by("episodes.datasets", "find_reader"),
    ),
]


def with_tracking(overrides: list[str] | None, wandb: bool) -> list[str]:
    """Return a configuration's overrides, in which --wandb has the last word."""
    return [*(overrides or ()), *(["tracking.to=wandb"] if wandb else [])]


def new_reporter() -> "Reporter":
    """Make the reporter of this call; from here on the project's own log messages are shown, each once."""
    from fewshot.terminal import Reporter, show_messages

    reporter = Reporter()
    show_messages(reporter.console, logging.INFO)
    return reporter
