"""From a configured dataset to its store: generate or read, then decode once."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from episodes.datasets import read_dataset
from episodes.preparation import prepare_store
from episodes.records import Record
from episodes.store import Collection, Store
from fewshot.config import DataConfig
from fewshot.data.policies import policy_of
from fewshot.terminal.progress import Reporter


def default_cache() -> Path:
    """The user's cache, where stores and phantoms lie unless a configuration says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fewshot-bus"


def read_records(config: DataConfig, name: str) -> list[Record]:
    """The records of a configured dataset, which is generated first if it is a phantom."""
    dataset = config.datasets[name]
    root = config.root(name)
    if root is None:
        from episodes.phantoms import PhantomSpec, prepare_phantoms

        assert dataset.phantom is not None  # noqa: S101 - the configuration holds exactly one of the two
        root = prepare_phantoms(
            PhantomSpec(**dataset.phantom.model_dump()), (config.cache or default_cache()) / "phantoms"
        )
    # Two folders may have the same reader: it is the configured name that tells their records apart.
    return [replace(record, dataset=name) for record in read_dataset(dataset.reader, root)]


def open_store(config: DataConfig, name: str, reporter: Reporter) -> Store:
    """The store of one configured dataset at the working size; decoded now where there is none.

    Raises:
        UserError: if the dataset or a file of its curation cannot be read, or the curation does not fit the dataset.
    """
    with reporter.step(f"data: {name}") as progress:
        records = read_records(config, name)
        size = (config.image_size, config.image_size)
        stores = (config.cache or default_cache()) / "stores"
        return prepare_store(records, stores, size, progress, policy=policy_of(config, name))


def open_collection(config: DataConfig, names: Iterable[str], reporter: Reporter) -> Collection:
    """The stores of several configured datasets, read as one."""
    return Collection(open_store(config, name, reporter) for name in names)
