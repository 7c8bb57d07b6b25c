"""The command line's groups of commands, and arguments that several of them have."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
Root = Annotated[Path, typer.Argument(help="The dataset's folder, as distributed.")]
Wandb = Annotated[
    bool, typer.Option("--wandb", help="Log to Weights & Biases as well; without a login, to files for `wandb sync`.")
]
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


def curation(
    duplicates: policy.Duplicates, doppler: policy.Doppler, curated: Path | None, corrections: Path | None
) -> dict[str, Any]:
    """These options as a dataset's `curation` in a configuration."""
    return {"duplicates": duplicates, "doppler": doppler, "curated": curated, "corrections": corrections}


def known(name: str, find: Callable[[str], object]) -> str:
    """A name that `find` finds.

    Raises:
        BadParameter: with what it says of any other.
    """
    try:
        find(name)
    except UserError as error:
        raise typer.BadParameter(str(error)) from error
    return name


def _known_reader(name: str) -> str:
    from episodes.datasets import find_reader

    return known(name, find_reader)


Dataset = Annotated[
    str, typer.Option("--dataset", "-d", help="Its reader: a name, or module:function.", callback=_known_reader)
]


def with_tracking(overrides: list[str] | None, wandb: bool) -> list[str]:
    """A configuration's overrides, in which --wandb has the last word."""
    return [*(overrides or ()), *(["tracking=wandb"] if wandb else [])]


def new_reporter() -> "Reporter":
    """The reporter of this call; from here on the project's own log messages are shown, each once."""
    from fewshot.terminal import Reporter, show_messages

    reporter = Reporter()
    show_messages(reporter.console, logging.INFO)
    return reporter
