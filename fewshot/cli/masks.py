"""Commands from a few annotated images to masks: select, predict, export, demo."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from episodes.errors import UserError
from fewshot.cli.arguments import Device, InvertMasks, Method, MethodOptions, Support, Trained, Trust, app, new_reporter


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
        Path | None, typer.Option(metavar="FILE", help="Patients and labels; the images' metadata.csv if not given.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=32, max=2_048, help="Working size; the checkpoint's, or 256, if not given.")
    ] = None,
    device: Device = "auto",
    trust: Trust = None,
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
    from fewshot.select import Describer, SelectionRequest, require_replaceable, select_images

    require_replaceable(out, overwrite=overwrite)  # known before anything is loaded
    if checkpoint is not None:
        describer = Describer.of_checkpoint(checkpoint, image_size, trust or ())
    else:
        describer = Describer.named(encoder or "", weights, image_size or 256)
    request = SelectionRequest(images, budget, by, metadata, device)
    table = select_images(request, describer, out, new_reporter(), overwrite=overwrite)
    sys.stdout.write(f"{table.read_text(encoding='utf-8')}\n{out}\n")


@app.command(
    epilog="Example: fewshot predict panet.safetensors --support annotated/ --images 'scans/*.png' --out predicted"
)
def predict(
    checkpoint: Trained,
    images: Annotated[str, typer.Option(help="An image, a folder (with all below it), or a pattern in quotes.")],
    out: Annotated[Path, typer.Option(help="The folder to write; one that was interrupted goes on.")],
    overrides: MethodOptions = None,
    support: Annotated[
        Path | None, typer.Option(help="A folder of annotated images to adapt to, such as images/ and masks/.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="How many of them, the first by name; 0 for none at all.")
    ] = None,
    method: Method = None,
    adapt: Annotated[
        Literal["finetune"] | None, typer.Option(help="Go on training the model on the annotated images.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="Known masks, to score by; names as the images'.")] = None,
    invert_masks: InvertMasks = False,
    spacing: Annotated[
        str | None, typer.Option(metavar="MM", help="Pixel size where an image says none: 0.1, or rows x columns.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once; what suits the device if not given.")
    ] = None,
    npy: Annotated[bool, typer.Option("--npy", help="Probabilities as NumPy's files, not as pictures.")] = False,
    device: Device = "auto",
    trust: Trust = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of another model.")] = False,
) -> None:
    """Segment images: masks, probabilities, overlays and a table. Research only, not for clinical use.

    A few-shot model adapts to the annotated images; a supervised one is used as it is, or trained on them by --adapt.
    """
    _require_options(overrides or ())
    from fewshot.config.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from episodes.images.spacing import parse_spacing, spacing_doubt

    size = None if spacing is None else parse_spacing(spacing, "--spacing")
    if size and (doubt := spacing_doubt(size)):
        raise UserError(f"--spacing: {doubt}; give millimetres from pixel to pixel")
    from fewshot.predict.run import PredictionRequest, predict_folder

    request = PredictionRequest(
        checkpoint=checkpoint,
        images=images,
        support=support,
        shots=shots,
        method=method,
        adapt=adapt,
        options=options,
        masks=masks,
        invert_masks=invert_masks,
        spacing=size,
        batch=batch,
        npy=npy,
        device=device,
        trust=trust or (),
    )
    summary = predict_folder(request, out, new_reporter(), overwrite=overwrite)
    sys.stdout.writelines(f"{line}\n" for line in summary.lines())
    summary.require_all_read()


def _require_options(words: Sequence[str]) -> None:
    """Tell who left out the quotes around a pattern, which the shell then made into many words."""
    if any("=" not in word and Path(word).is_file() for word in words):
        raise typer.BadParameter("several files: put the pattern of --images in quotes, such as 'scans/*.png'")


@app.command(epilog="Example: fewshot export runs/panet/checkpoint.safetensors --support my_images/ --out model.onnx")
def export(
    checkpoint: Trained,
    out: Annotated[Path, typer.Option(help="The file to write; it ends in .onnx.")],
    overrides: MethodOptions = None,
    support: Support = None,
    method: Method = None,
    shots: Annotated[int | None, typer.Option(min=1, help="How many of them, the first by name.")] = None,
    invert_masks: InvertMasks = False,
    trust: Trust = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a model as ONNX, what it took from its support set baked in. Research only, not for clinical use.

    The file gets its name once it is known to compute what the original does, to 1e-4.
    """
    from fewshot.config.parsing import parse_overrides

    options = parse_overrides(overrides or ())
    from fewshot.export import ExportRequest, export_checkpoint

    reporter = new_reporter()
    with reporter.step("export") as update:
        request = ExportRequest(checkpoint, support, method, shots, options, trust or (), invert_masks)
        difference = export_checkpoint(request, out, overwrite=overwrite)
        update(1, 1, f"differs by {difference:.1g} at most")
    sys.stdout.write(f"{out}\n")


@app.command(epilog="Example: fewshot demo runs/panet/checkpoint.safetensors runs/unet/checkpoint.safetensors")
def demo(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="What `fewshot train` wrote; the page can swap them.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; other computers can reach any but this default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    device: Device = "auto",
    trust: Trust = None,
) -> None:
    """Open a page on this computer: paint lesions, segment other images, see what each painting brings.

    Research only, not for clinical use. Uploads stay in a temporary folder and are deleted when the page is closed.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)}: not installed; pip install 'fewshot-bus[demo]'")
    from fewshot.demo.server import serve

    serve(checkpoints, new_reporter().console, host=host, port=port, device=device, trust=trust or ())
