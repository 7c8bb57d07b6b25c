"""`fewshot data prepare`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fewshot.cli.apps import data_app
from fewshot.cli.arguments import Corrections, Curated, Dataset, Doppler, Duplicates, Root, curation, new_reporter

if TYPE_CHECKING:
    from episodes.store import Store

SHOWN = 10  # images of each reason


@data_app.command(epilog="Example: fewshot data prepare data/BUS-UCLM --dataset bus_uclm --doppler drop")
def prepare(
    root: Root,
    dataset: Dataset,
    size: Annotated[int, typer.Option(min=32, help="Working size: height and width in pixels.")] = 256,
    name: Annotated[str | None, typer.Option(help="Its name in configurations; the reader's if not given.")] = None,
    duplicates: Duplicates = "group",
    doppler: Doppler = "keep",
    curated: Curated = None,
    corrections: Corrections = None,
    cache: Annotated[Path | None, typer.Option(help="Where stores lie; the user's cache if not given.")] = None,
) -> None:
    """Decode a dataset once, so that everything after it reads memory-mapped arrays, and say what is left out and why.

    Where it is stopped, the same command goes on from there.
    """
    from fewshot.config import DataConfig
    from fewshot.data.stores import open_store
    from fewshot.parsing import parse_config

    name = name or dataset.partition(":")[0]
    options = curation(duplicates, doppler, curated, corrections)
    tree = {
        "datasets": {name: {"reader": dataset, "root": root, "curation": options}},
        "image_size": size,
        "cache": cache,
    }
    store = open_store(parse_config(tree, DataConfig, "data prepare"), name, new_reporter())
    sys.stdout.write("".join(f"{line}\n" for line in describe_dropped(store)))
    sys.stdout.write(f"{store.folder}: {len(store.records)} images\n")


def describe_dropped(store: "Store") -> list[str]:
    """Lines that say which images were left out and why, the first few of each reason by name."""
    from episodes.policies import count_by_reason
    from episodes.store_index import INDEX

    lines = []
    for reason, count in count_by_reason(store.dropped).items():
        lines.append(f"left out, {count}: {reason}")
        named = [one for one in store.dropped if one.reason == reason]
        lines += [f"  {one.id}" + (f": {one.detail}" if one.detail else "") for one in named[:SHOWN]]
        if count > SHOWN:
            lines.append(f"  and {count - SHOWN} more, which are in {store.folder / INDEX}")
    return lines
