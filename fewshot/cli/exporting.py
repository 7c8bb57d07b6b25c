"""`fewshot export`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import app
from fewshot.cli.arguments import new_reporter


@app.command(epilog="Example: fewshot export runs/panet/checkpoint.safetensors --support my_images/ --out model.onnx")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="What `fewshot train` or `fewshot finetune` wrote.")],
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .onnx.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the method, such as steps=60.")
    ] = None,
    support: Annotated[Path | None, typer.Option(help="Annotated images to adapt to: images/ and masks/.")] = None,
    method: Annotated[str | None, typer.Option(help="How the model is used; what goes with it if not given.")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of them, the first by name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as ONNX, what it took from its support set baked in. Research only, not for clinical use.

    The file gets its name once it is known to compute what the original does, to 1e-4.
    """
    from fewshot.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from fewshot.exporting.run import Request, export_checkpoint

    reporter = new_reporter()
    with reporter.step("export") as update:
        request = Request(checkpoint, support, method, shots, options)
        difference = export_checkpoint(request, out, overwrite=overwrite)
        update(1, 1, f"differs by {difference:.1g} at most")
    sys.stdout.write(f"{out}\n")
