"""From a configured dataset to its store: generate or read, then decode once."""

import os
from collections.abc import Iterable
from pathlib import Path

from episodes.datasets import read_dataset
from episodes.records import Record
from episodes.store import Collection, Store, prepare_store
from fewshot.config import DataConfig
from fewshot.progress import Reporter


def cache_folder(config: DataConfig) -> Path:
    """Where stores and phantoms lie: the configured folder, else the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return config.cache or Path(home) / "fewshot-bus"


def read_records(config: DataConfig, name: str) -> list[Record]:
    """The records of a configured dataset, which is generated first if it is a phantom."""
    dataset = config.datasets[name]
    root = config.root(name)
    if root is None:
        from episodes.phantoms import PhantomSpec, prepare_phantoms

        assert dataset.phantom is not None  # noqa: S101 - the configuration holds exactly one of the two
        root = prepare_phantoms(PhantomSpec(**dataset.phantom.model_dump()), cache_folder(config) / "phantoms")
    return read_dataset(dataset.reader, root)


def open_store(config: DataConfig, name: str, reporter: Reporter) -> Store:
    """The store of one configured dataset at the working size; decoded now where there is none."""
    with reporter.step(f"data: {name}") as progress:
        records = read_records(config, name)
        size = (config.image_size, config.image_size)
        return prepare_store(records, cache_folder(config) / "stores", size, progress)


def open_collection(config: DataConfig, names: Iterable[str], reporter: Reporter) -> Collection:
    """The stores of several configured datasets, read as one."""
    return Collection(open_store(config, name, reporter) for name in names)
