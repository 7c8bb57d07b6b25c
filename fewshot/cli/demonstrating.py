"""`fewshot demo`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import UserError
from fewshot.cli.apps import app
from fewshot.cli.arguments import new_reporter


@app.command(epilog="Example: fewshot demo runs/panet/checkpoint.safetensors runs/unet/checkpoint.safetensors")
def demo(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CHECKPOINT...", help="What `fewshot train` wrote; the page can swap them.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; other computers can reach any but this default.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Open a page on this computer: paint lesions, segment other images, see what each painting brings.

    Research only, not for clinical use. Uploads stay in a temporary folder and are deleted when the page is closed.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)}: not installed; pip install 'fewshot-bus[demo]'")
    from fewshot.demo.server import serve

    serve(checkpoints, new_reporter().console, host=host, port=port, device=device)
