"""`fewshot train`, `fewshot finetune` and `fewshot evaluate`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot.cli.apps import app
from fewshot.cli.arguments import ConfigFile, Dataset, Overrides, Wandb, new_reporter, with_tracking

if TYPE_CHECKING:
    from fewshot.config import Tracking


class Part(StrEnum):
    """What of a dataset a model is judged on."""

    TEST = "test"
    ALL = "all"


@app.command(epilog="Example: fewshot train configs/train/panet.yaml train.steps=500 seed=1")
def train(config: ConfigFile, overrides: Overrides = None, wandb: Wandb = False) -> None:
    """Train one model on the source datasets and write its checkpoint.

    Several processes train together under torchrun: torchrun --nproc-per-node 4 -m fewshot train CONFIG
    """
    from fewshot.config import TrainConfig
    from fewshot.parsing import load_config

    settings = load_config(config, TrainConfig, with_tracking(overrides, wandb))
    from fewshot.training.run import train as train_model

    sys.stdout.write(f"{train_model(settings, settings.runs / settings.name, new_reporter())}\n")


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
    from fewshot.training.finetuning import finetune_checkpoint

    tracking: Tracking = "wandb" if wandb else "local"
    path = finetune_checkpoint(checkpoint, support, out, overrides or (), new_reporter(), shots, tracking)
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
    evaluate_checkpoints(request, out, new_reporter(), overwrite=overwrite, tracking=tracking)
    sys.stdout.write((out / ("evaluation.json" if as_json else "evaluation.md")).read_text())
    if not as_json:
        sys.stdout.write(f"\n{out}\n")
