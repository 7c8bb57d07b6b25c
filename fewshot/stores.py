"""The stores of configured datasets, and the record of what data a run was made of."""

import errno
import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, TypeVar

from episodes.curation.policy import Corrections, CuratedList, Policy, count_by_reason
from episodes.datasets import read_dataset
from episodes.errors import StorageError, UserError
from episodes.io.files import write_text
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.records import LABELS, Record
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection, Store
from fewshot.config.data import CorrectionsConfig, DataConfig
from fewshot.config.parsing import ConfigError, load_config, parse_config
from fewshot.terminal import Reporter

logger = logging.getLogger(__name__)

DATA = "data.json"

T = TypeVar("T")

# What the system says where a folder cannot be made or written, however much space there is.
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT}


def policy_of(config: DataConfig, name: str) -> Policy:
    """Build the policy of a configured dataset from its configuration and the files that it names.

    Raises:
        UserError: if a file cannot be read, or the corrections are of another dataset.
    """
    dataset = config.datasets[name]
    curation = dataset.curation
    corrections = curated = None
    if curation.corrections is not None:
        corrections = read_corrections(config.data_root / curation.corrections, (name, dataset.reader))
    if curation.curated is not None:
        curated = CuratedList.read(config.data_root / curation.curated)
    return Policy(curation.duplicates, curation.doppler, curated, corrections)


def read_corrections(path: Path, names: tuple[str, ...]) -> Corrections:
    """Read a YAML file of corrections, which must give one of the names of the dataset at hand.

    Raises:
        ConfigError: if the file cannot be read, is not as `CorrectionsConfig` says, or is for another dataset.
    """
    found = load_config(path, CorrectionsConfig)
    if found.dataset not in names:
        raise ConfigError(
            f"{path}: is for the dataset {found.dataset}, and this one is {names[0]}; give the corrections of this one"
        )
    return found.corrections(str(path))


def default_cache() -> Path:
    """Return the user's cache, where stores and phantoms lie unless a configuration says otherwise.

    Raises:
        RuntimeError: if the user has no home.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fewshot-bus"


def in_cache(config: DataConfig, prepare: Callable[[Path], T]) -> T:
    """Call what prepares something with the cache; with a temporary one where the user's cannot be made or written."""
    if config.cache is not None:
        return prepare(config.cache)
    try:
        place = default_cache()
    except RuntimeError:
        return prepare(_temporary_cache("there is no home folder to hold the cache"))
    try:
        return prepare(place)
    except StorageError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in _NOT_OURS:
            raise
        return prepare(_temporary_cache(f"the cache {place} cannot be written ({error.__cause__.strerror})"))


@cache
def _temporary_cache(why: str) -> Path:
    """Make a folder that the next command finds again, of this user alone: stores hold patients' images."""
    try:
        folder = Path(gettempdir()) / f"fewshot-bus-{os.getuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            folder = Path(mkdtemp(prefix="fewshot-bus-"))
    except OSError as error:
        raise StorageError(f"{why}, nor a temporary one be made ({error.strerror}); set `cache` or --cache") from error
    logger.warning("%s: %s is used; give a lasting place by `cache` or --cache", why, folder)
    return folder


def read_records(config: DataConfig, name: str) -> list[Record]:
    """Read the records of a configured dataset, which is generated first if it is a phantom."""
    dataset = config.datasets[name]
    root = config.root(name)
    if root is None:
        from episodes.phantoms.layouts import prepare_phantoms
        from episodes.phantoms.population import PhantomSpec

        assert dataset.phantom is not None  # noqa: S101 - the configuration holds exactly one of the two
        spec = PhantomSpec(**dataset.phantom.model_dump())
        root = in_cache(config, lambda cache: prepare_phantoms(spec, cache / "phantoms"))
    # Two folders may have the same reader: it is the configured name that tells their records apart.
    records = read_dataset(dataset.reader, root, invert_masks=dataset.invert)
    return [replace(record, dataset=name) for record in records]


def open_store(config: DataConfig, name: str, reporter: Reporter, *, check_pixels: bool = False) -> Store:
    """Open the store of one configured dataset at the working size; decode it now where there is none.

    `check_pixels` checks every image of a store that is there now, and not when it is first read.

    Raises:
        UserError: if the dataset or a file of its curation cannot be read, or the curation does not fit the dataset.
    """
    with reporter.step(f"data: {name}") as progress:
        records = read_records(config, name)
        size = (config.image_size, config.image_size)
        settings: dict[str, Any] = {"policy": policy_of(config, name), "check_pixels": check_pixels}
        return in_cache(config, lambda cache: prepare_store(records, cache / "stores", size, progress, **settings))


def open_dataset(
    name: str | None,
    dataset: Mapping[str, Any],
    reporter: Reporter,
    command: str,
    *,
    check_pixels: bool = False,
    **settings: Any,
) -> Store:
    """Open the store of one dataset, as a configuration of it and of these settings would; `command` names errors.

    Without a name, it is called by its reader, or by the module of a user's own.
    """
    name = name or str(dataset["reader"]).partition(":")[0]
    config = parse_config({"datasets": {name: dataset}, **settings}, DataConfig, command)
    return open_store(config, name, reporter, check_pixels=check_pixels)


def open_collection(config: DataConfig, names: Iterable[str], reporter: Reporter) -> Collection:
    """Open the stores of several configured datasets, to be read as one."""
    return Collection(open_store(config, name, reporter) for name in names)


def data_record(stores: Iterable[Store]) -> dict[str, Any]:
    """Describe datasets, by name.

    Each has `store`, which depends on the content of its files; its `policy`; how many images are `kept`, in all, of
    how many patients and of each label; how many are `dropped` for each reason; and each of these by id.
    """
    record: dict[str, Any] = {}
    for store in stores:
        labels = Counter(one.label for one in store.records)
        record[store.records[0].dataset] = {
            "store": store.folder.name,
            "policy": dict(store.policy),
            "kept": {
                "images": len(store.records),
                "patients": len({one.patient_id for one in store.records}),
                **{label: labels[label] for label in LABELS},
            },
            "dropped": count_by_reason(store.dropped),
            "dropped_images": [asdict(one) for one in store.dropped],
        }
    return record


def write_data_record(folder: Path, stores: Iterable[Store], *, going_on: bool = False) -> None:
    """Write the data that a run uses to its folder, `data.json`; those of a run that goes on must be as they were.

    Raises:
        UserError: if they are not.
        StorageError: if the file cannot be written.
    """
    record, path = data_record(stores), folder / DATA
    if going_on and path.is_file() and (changed := _changed(path, record)):
        raise UserError(
            f"{path}: the run there began with other data: since then files, corrections or the curated list of"
            f" {', '.join(changed)} have changed; give another name, or delete its folder"
        )
    write_text(path, json.dumps(record, indent=1) + "\n")


def _changed(path: Path, record: dict[str, Any]) -> list[str]:
    """List the datasets that a file does not describe as they are."""
    try:
        found = read_json(path)
    except (OSError, JSONTextError):
        found = None
    before = found if isinstance(found, dict) else {}
    return [name for name in record if before.get(name) != record[name]]
