"""`fewshot data check`, `prepare` and `generate`."""

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from episodes.errors import UserError
from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Dataset, Root, known, new_reporter


class Layout(StrEnum):
    """The forms in which phantoms are written."""

    FOLDER = "folder"
    BUSI = "busi"
    BUS_UCLM = "bus_uclm"
    UDIAT = "udiat"


def _known_scanner(name: str) -> str:
    from episodes.phantoms.scanners import scanner_named

    return known(name, scanner_named)


@data_app.command(epilog="Example: fewshot data check data/Dataset_BUSI_with_GT --dataset busi")
def check(
    root: Root,
    dataset: Dataset,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Read every file of a dataset and list what looks wrong."""
    from episodes.curation import check as check_records
    from episodes.datasets import read_dataset
    from fewshot.tables import print_check

    reporter = new_reporter()
    with reporter.step(f"check {dataset}") as progress:
        report = check_records(read_dataset(dataset, root), root, progress=progress)
    if as_json:
        sys.stdout.write(json.dumps(asdict(report), indent=1) + "\n")
    else:
        print_check(report)


@data_app.command(epilog="Example: fewshot data prepare data/BUS-UCLM --dataset bus_uclm --size 256")
def prepare(
    root: Root,
    dataset: Dataset,
    size: Annotated[int, typer.Option(min=32, help="Working size: height and width in pixels.")] = 256,
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the reader's if not given.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where stores lie; the user's cache if not given.")] = None,
) -> None:
    """Decode a dataset once, so that everything after it reads memory-mapped arrays."""
    from fewshot.config import DataConfig
    from fewshot.data import open_store
    from fewshot.parsing import parse_config

    name = name or dataset.partition(":")[0]
    tree = {"datasets": {name: {"reader": dataset, "root": root}}, "image_size": size, "cache": cache}
    store = open_store(parse_config(tree, DataConfig, "data prepare"), name, new_reporter())
    sys.stdout.write(f"{store.folder}: {len(store.records)} images\n")


@data_app.command(epilog="Example: fewshot data generate phantoms/ --scanner linear --images 100")
def generate(
    root: Annotated[Path, typer.Argument(help="The folder to write; it must not exist yet.")],
    scanner: Annotated[str, typer.Option(help="The machine: linear, highfreq or portable.", callback=_known_scanner)],
    images: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other patients.")] = 0,
    layout: Annotated[Layout, typer.Option(help="In the form of which dataset.")] = Layout.FOLDER,
) -> None:
    """Write a phantom dataset: B-mode images made from tissue models, with exact masks."""
    from episodes import phantoms
    from fewshot.progress import counted

    if root.exists():
        raise UserError(f"{root}: exists already; give a folder that does not, so that nothing is overwritten")
    spec = phantoms.PhantomSpec(scanner, images, seed)
    writer = getattr(phantoms, f"write_{layout.value}")
    with new_reporter().step(f"generate {images} images") as progress:
        options = {"spec": spec} if layout is Layout.FOLDER else {}
        writer(counted(phantoms.generate(spec), images, progress), root, **options)
    sys.stdout.write(f"{root}\n")
