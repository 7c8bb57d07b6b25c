"""`fewshot predict`."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import app
from fewshot.cli.arguments import new_reporter


class Adapt(StrEnum):
    """How a model may be changed by the annotated images."""

    FINETUNE = "finetune"


@app.command(
    epilog="Example: fewshot predict panet.safetensors --support annotated/ --images 'scans/*.png' --out predicted"
)
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="What `fewshot train` or `fewshot finetune` wrote.")],
    images: Annotated[str, typer.Option(help="An image, a folder (with all below it), or a pattern in quotes.")],
    out: Annotated[Path, typer.Option(help="The folder to write; one that was interrupted goes on.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTION=VALUE]...", help="Options of the method, such as steps=60.")
    ] = None,
    support: Annotated[
        Path | None, typer.Option(help="A folder of annotated images to adapt to, such as images/ and masks/.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="How many of them, the first by name; 0 for none at all.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="How the model is used; what goes with it if not given.")] = None,
    adapt: Annotated[Adapt | None, typer.Option(help="Go on training the model on the annotated images.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Known masks, to score by; names as the images'.")] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="MM", help="Pixel size where an image says none: 0.1, or rows x columns.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once; what suits the device if not given.")
    ] = None,
    npy: Annotated[bool, typer.Option("--npy", help="Probabilities as NumPy's files, not as pictures.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of another model.")] = False,
) -> None:
    """Segment images: masks, probabilities, overlays and a table. Research only, not for clinical use.

    A few-shot model adapts to the annotated images; a supervised one is used as it is, or trained on them by --adapt.
    """
    _require_options(overrides or ())
    from fewshot.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from fewshot.prediction.request import Request
    from fewshot.prediction.run import predict_folder
    from fewshot.prediction.spacings import parse_spacing

    request = Request(
        checkpoint=checkpoint,
        images=images,
        support=support,
        shots=shots,
        method=method,
        adapt=None if adapt is None else "finetune",
        options=options,
        masks=masks,
        spacing=None if spacing is None else parse_spacing(spacing, "--spacing"),
        batch=batch,
        npy=npy,
        device=device,
    )
    summary = predict_folder(request, out, new_reporter(), overwrite=overwrite)
    sys.stdout.writelines(f"{line}\n" for line in summary.lines())
    summary.require_all_read()


def _require_options(words: Sequence[str]) -> None:
    """Tell who left out the quotes around a pattern, which the shell then made into many words."""
    if any("=" not in word and Path(word).is_file() for word in words):
        raise typer.BadParameter("several files: put the pattern of --images in quotes, such as 'scans/*.png'")
