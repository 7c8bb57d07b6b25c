"""`fewshot data show`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Corrections, Curated, Dataset, Doppler, Duplicates, Root, curation, new_reporter


@data_app.command(epilog="Example: fewshot data show data/BUS-UCLM --dataset bus_uclm --out figures/bus_uclm")
def show(
    root: Root,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The folder to write the figures to.")],
    count: Annotated[int, typer.Option(min=1, max=400, help="Images on the contact sheet.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Another seed chooses other images.")] = 0,
    split: Annotated[Path | None, typer.Option(metavar="FILE", help="A split of it, to draw as well.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the reader's if not given.")] = None,
    duplicates: Duplicates = "group",
    doppler: Doppler = "keep",
    curated: Curated = None,
    corrections: Corrections = None,
    cache: Annotated[Path | None, typer.Option(help="Where stores lie; the user's cache if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing figures.")] = False,
) -> None:
    """Draw a dataset: images of each class with their lesions outlined, and how many there are.

    Lesions are outlined green where they are benign and red where malignant, as decoded for training.
    """
    from fewshot.config import DataConfig
    from fewshot.data.showing import require_free, show_dataset
    from fewshot.data.stores import open_store
    from fewshot.parsing import parse_config

    require_free(out, with_split=split is not None, overwrite=overwrite)
    name = name or dataset.partition(":")[0]
    policy = curation(duplicates, doppler, curated, corrections)
    tree = {"datasets": {name: {"reader": dataset, "root": root, "curation": policy}}, "cache": cache}
    reporter = new_reporter()
    store = open_store(parse_config(tree, DataConfig, "data show"), name, reporter)
    with reporter.step("draw"):
        files = show_dataset(store, out, count=count, seed=seed, split=split, overwrite=overwrite)
    sys.stdout.writelines(f"{path}\n" for path in files)
