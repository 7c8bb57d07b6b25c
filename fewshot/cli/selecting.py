"""`fewshot select`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from fewshot.cli.apps import app
from fewshot.cli.arguments import new_reporter


@app.command(epilog="Example: fewshot select runs/panet/checkpoint.safetensors --images scans/ --budget 5 --out first")
def select(
    images: Annotated[str, typer.Option(metavar="FILE|FOLDER|PATTERN", help="Images without masks, searched below.")],
    out: Annotated[Path, typer.Option(help="The folder to write: a table, a contact sheet, and copies to outline.")],
    checkpoint: Annotated[
        Path | None, typer.Argument(help="What `fewshot train` wrote; its encoder says what images look like.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="In place of a checkpoint: a timm encoder, as resnet18.")] = None,
    weights: Annotated[
        str, typer.Option(metavar="imagenet|FILE", help="Of --encoder: timm's download, or a safetensors file.")
    ] = "imagenet",
    budget: Annotated[int, typer.Option(min=1, max=1_000, help="How many images to choose.")] = 5,
    by: Annotated[
        Literal["k-medoids", "k-centres"],
        typer.Option(help="Near to all images on average; or as near as may be to the one that is farthest."),
    ] = "k-medoids",
    metadata: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Patients and labels; the images' metadata.csv if not given."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, max=2_048, help="Working size; the checkpoint's, or 256, if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier selection.")] = False,
) -> None:
    """Choose which images to annotate first: few that cover what all of them look like.

    At most one of a patient, while there are others. The first K of a larger budget are the choice of K: where an image
    shows no lesion, take the next.
    """
    if (checkpoint is None) == (encoder is None):
        raise typer.BadParameter("give a checkpoint or --encoder, and not both", param_hint="CHECKPOINT")
    if encoder is not None and weights == "none":
        raise typer.BadParameter("random weights describe nothing; give a file", param_hint="--weights")
    from fewshot.selection.description import Describer
    from fewshot.selection.results import require_free
    from fewshot.selection.run import Request, select_images

    require_free(out, overwrite=overwrite)  # known before anything is loaded
    if checkpoint is not None:
        describer = Describer.of_checkpoint(checkpoint, image_size)
    else:
        describer = Describer.named(encoder or "", weights, image_size or 256)
    request = Request(images, budget, by, metadata, device)
    table = select_images(request, describer, out, new_reporter(), overwrite=overwrite)
    sys.stdout.write(f"{table.read_text(encoding='utf-8')}\n{out}\n")
