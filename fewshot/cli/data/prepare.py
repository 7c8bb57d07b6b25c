"""`fewshot data prepare`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Dataset, Root, new_reporter


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
