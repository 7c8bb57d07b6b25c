"""`fewshot episodes sample`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fewshot.cli.apps import episodes_app
from fewshot.cli.arguments import ConfigFile, Overrides, new_reporter


@episodes_app.command(epilog="Example: fewshot episodes sample configs/data/episodes.yaml tasks.jsonl --count 1000")
def sample(
    config: ConfigFile,
    out: Annotated[Path, typer.Argument(help="The manifest to write, JSON lines.")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing manifest.")] = False,
) -> None:
    """Sample episodes and write them down, so that others can be measured on the same ones."""
    from fewshot.config import SampleConfig
    from fewshot.parsing import load_config

    settings = load_config(config, SampleConfig, overrides or ())
    from episodes.manifest import write_manifest
    from fewshot.data.stores import open_collection
    from fewshot.training.episodic import episode_sampler

    collection = open_collection(settings, settings.datasets, new_reporter())
    sampler = episode_sampler(collection, settings.episodes, settings.seed)
    specs = sampler.specs(0, count)
    write_manifest(out, specs, collection.records, overwrite=overwrite, **sampler.parameters)
    sys.stdout.write(f"{out}: {count} episodes\n")
