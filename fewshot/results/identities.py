"""Pseudonyms in place of patients, file names and paths, in whatever of a run is meant to be shared.

All datasets are treated alike: a reader's name does not prove that a folder holds the published files alone.
"""

import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from episodes.errors import StorageError, UserError
from episodes.io.files import csv_text, written_whole
from episodes.io.locks import waiting_lock
from episodes.io.yaml_json import parse_yaml
from fewshot.results.run_files import Annotated, GalleryCase, RunFiles, read_run_files

logger = logging.getLogger(__name__)

KEY = "identities.key"
"""The file in a run's folder that pseudonyms are made with; it and `NAMES` stay there."""

NAMES = "identities.csv"
"""The file in a run's folder that says whose pseudonym is which."""

_KEY_BYTES, _DIGITS = 32, 16  # 64 bits: of a million names, two coincide once in 37 million runs

# Keys of configurations whose values are paths.
PLACES = frozenset({"data_root", "cache", "runs", "root", "curated", "corrections", "split", "checkpoint"})
_NO_FILES = frozenset({"none", "imagenet"})


def without_paths(tree: Any, key: str = "") -> Any:
    """Return a configuration's JSON values without paths: those of known keys, and texts that hold a separator.

    >>> without_paths({"root": "mine", "weights": "a/b.safetensors", "sources": ["mine"], "steps": 3})
    {'root': '(a path)', 'weights': '(a path)', 'sources': ['mine'], 'steps': 3}
    """
    if isinstance(tree, Mapping):
        return {name: without_paths(value, str(name)) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_paths(value, key) for value in tree]
    if not isinstance(tree, str):
        return tree
    is_path = key in PLACES or (key == "weights" and tree not in _NO_FILES) or "/" in tree or "\\" in tree
    return "(a path)" if is_path else tree


@dataclass(frozen=True)
class Identities:
    """The names that are shown for patients, images and paths: pseudonyms by a key, or, without one, their own.

    The same key gives the same pseudonyms; without it they cannot be told from random ones, nor found by trying names.
    """

    key: bytes | None = field(repr=False)

    def image(self, record_id: str) -> str:
        """Return what stands for a record; the dataset's name is the user's own word, and stays.

        >>> Identities(None).image("clinic/mueller"), Identities(bytes(32)).image("clinic/mueller")
        ('clinic/mueller', 'clinic/image-7e9d4495df4a1ae8')
        """
        dataset, _, _ = record_id.partition("/")
        return record_id if self.key is None else f"{dataset}/{self._pseudonym('image', record_id)}"

    def patient(self, patient: str) -> str:
        """Return what stands for a patient."""
        return self._pseudonym("patient", patient)

    def case(self, case: GalleryCase) -> GalleryCase:
        """Return a case whose images bear what stands for them."""
        return replace(case, query=self._shown(case.query), supports=tuple(map(self._shown, case.supports)))

    def settings(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration, JSON values, as it is shown: without paths unless names are kept."""
        return dict(tree) if self.key is None else dict(without_paths(tree))

    def write_names(self, folder: Path, images: Iterable[str], patients: Iterable[str]) -> None:
        """Write to a run's folder which pseudonym is whose, for its owner alone; nothing where names are kept."""
        if self.key is None:
            return
        lines = [(self.image(name), name) for name in sorted(set(images))]
        lines += [(self.patient(name), name) for name in sorted(set(patients))]
        with suppress(StorageError), written_whole(folder / NAMES) as partial:  # a run may be there to be read alone
            partial.touch(mode=0o600)
            partial.write_text(csv_text([("pseudonym", "name"), *lines]), encoding="utf-8")

    def _shown(self, one: Annotated) -> Annotated:
        return replace(one, id=self.image(one.id))

    def _pseudonym(self, kind: str, name: str) -> str:
        if self.key is None:
            return name
        return f"{kind}-{hmac.digest(self.key, f'{kind} {name}'.encode(), 'sha256').hex()[:_DIGITS]}"


def run_identities(folder: Path, *, keep: bool = False) -> Identities:
    """Return what a run's folder shows to others; its key is made now if it has none.

    A folder that may only be read gets other pseudonyms each time, and a warning. With `keep` names stay what they are.

    Raises:
        UserError: if the key is damaged.
        StorageError: if it cannot be read.
    """
    if keep:
        return Identities(None)
    path = folder / KEY
    if not path.exists():
        try:
            _make_key(path)
        except StorageError as error:
            logger.warning("%s; pseudonyms will be others next time", error)
            return Identities(secrets.token_bytes(_KEY_BYTES))
    try:
        key = path.read_bytes()
    except OSError as error:
        raise StorageError.of(path, error) from error
    if len(key) != _KEY_BYTES:
        raise UserError(f"{path}: is no key of {_KEY_BYTES} bytes; restore it, or delete it for new pseudonyms")
    return Identities(key)


def _make_key(path: Path) -> None:
    """Write a key that nobody else may read; of two processes that do so at once, the first one's is kept."""
    with waiting_lock(path):
        if not path.exists():
            with written_whole(path) as partial:
                partial.touch(mode=0o600)
                partial.write_bytes(secrets.token_bytes(_KEY_BYTES))


def shared_run_files(folder: Path, name: str, table: pa.Table) -> RunFiles:
    """Read what a run's folder holds beside its results as a report shows it to others.

    `identities.csv` in the folder says whose the pseudonyms are.

    Raises:
        UserError: if a file is damaged.
    """
    files = read_run_files(folder, name)
    settings = {run: parse_yaml(text) for run, text in files.config.items()}
    identities = run_identities(folder, keep=any(map(_keeps_names, settings.values())))
    shown = {one.id for case in files.cases for one in (case.query, *case.supports)}
    identities.write_names(
        folder, {*shown, *table["query"].unique().to_pylist()}, table["patient"].unique().to_pylist()
    )
    return replace(
        files,
        config={
            run: yaml.safe_dump(identities.settings(tree), sort_keys=False) if isinstance(tree, dict) else ""
            for run, tree in settings.items()
        },
        cases=[identities.case(case) for case in files.cases],
    )


def _keeps_names(settings: object) -> bool:
    tracking = settings.get("tracking") if isinstance(settings, dict) else None
    return isinstance(tracking, dict) and tracking.get("identities") == "keep"
