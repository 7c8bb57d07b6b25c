"""`fewshot data generate`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import UserError
from fewshot.cli.apps import data_app
from fewshot.cli.arguments import known, new_reporter


class Layout(StrEnum):
    """The forms in which phantoms are written."""

    FOLDER = "folder"
    BUSI = "busi"
    BUS_UCLM = "bus_uclm"
    UDIAT = "udiat"


def _known_scanner(name: str) -> str:
    from episodes.phantoms.scanners import scanner_named

    return known(name, scanner_named)


@data_app.command(epilog="Example: fewshot data generate phantoms/ --scanner linear --images 100")
def generate(
    root: Annotated[Path, typer.Argument(help="The folder to write; it must not exist yet.")],
    scanner: Annotated[str, typer.Option(help="The machine: linear, highfreq or portable.", callback=_known_scanner)],
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other patients.")] = 0,
    layout: Annotated[Layout, typer.Option(help="In the form of which dataset.")] = Layout.FOLDER,
) -> None:
    """Write a phantom dataset: B-mode images made from tissue models, with exact masks."""
    from episodes.phantoms import layouts, population
    from fewshot.terminal.progress import counted

    if root.exists():
        raise UserError(f"{root}: exists already; give a folder that does not, so that nothing is overwritten")
    spec = population.PhantomSpec(scanner, images, seed)
    writer = getattr(layouts, f"write_{layout.value}")
    with new_reporter().step(f"generate {images} images") as progress:
        options = {"spec": spec} if layout is Layout.FOLDER else {}
        writer(counted(population.generate(spec), images, progress), root, **options)
    sys.stdout.write(f"{root}\n")
