"""The index of a store: whose image each row is, and what was left out; read strictly, for it may be damaged."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from episodes.errors import DatasetError
from episodes.files import write_text
from episodes.json_text import JSONTextError, read_json
from episodes.policies import Dropped
from episodes.records import Record

# Raised whenever decoding, resizing, grouping or a policy changes, so that stores of an older kind are made anew.
VERSION = 2
INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One row of a store.

    Attributes:
        record: whose image it is.
        source: hash of the files that it was made of.
        height: of the source image.
        width: of the source image.
    """

    record: Record
    source: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """What `index.json` says.

    Attributes:
        version: of the store's kind.
        size: working size, (height, width).
        policy: the dataset's, as `Policy.content`.
        rows: one per image.
        dropped: the images that the dataset's policy left out.
    """

    version: int
    size: tuple[int, int]
    policy: Mapping[str, Any]
    rows: tuple[IndexRow, ...]
    dropped: tuple[Dropped, ...]


_INDEX = TypeAdapter(StoreIndex)


def write_index(folder: Path, index: StoreIndex) -> None:
    """Write a store's index, whole.

    Raises:
        StorageError: if it cannot be written.
    """
    tree = asdict(index)
    for row in tree["rows"]:
        record = row["record"]
        record["image"], record["masks"] = str(record["image"]), [str(path) for path in record["masks"]]
    write_text(folder / INDEX, json.dumps(tree, indent=1) + "\n")


def read_index(folder: Path) -> StoreIndex:
    """Read a store's index.

    Raises:
        DatasetError: if the folder holds no store, a damaged one, or one of another version.
    """
    path = folder / INDEX
    try:
        tree = read_json(path)
        version = tree.get("version") if isinstance(tree, Mapping) else None
        if isinstance(version, int) and version != VERSION:
            raise DatasetError(f"{folder}: a store of version {version}; run `fewshot data prepare` again")
        index = _INDEX.validate_python(tree)
    except (OSError, JSONTextError, ValidationError) as error:
        raise damaged(path) from error
    ids = {row.record.id for row in index.rows}
    sizes = [*index.size, *(side for row in index.rows for side in (row.height, row.width))]
    if not index.rows or len(ids) < len(index.rows) or min(sizes) < 1:
        raise damaged(path)
    return index


def damaged(path: Path) -> DatasetError:
    """What to say of a store's file that is not as it was written."""
    return DatasetError(f"{path}: damaged; delete its folder and run `fewshot data prepare` again")
