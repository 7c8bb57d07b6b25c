"""The store: a dataset's decoded images, memory-mapped, with an index of their records."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from episodes.curation.policy import Dropped
from episodes.errors import DatasetError
from episodes.io.files import write_text
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.names import printable
from episodes.records import Record

# Raised whenever decoding, resizing, grouping or a policy changes, so that stores of an older kind are made anew.
VERSION = 4
INDEX, IMAGES, LABEL_MAPS = "index.json", "images.npy", "label_maps.npy"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One image of a store."""

    record: Record
    source: str  # hash of the files that it was made of
    height: int  # of the source image
    width: int  # of the source image
    image_crc: int  # CRC-32 of its bytes in the store
    label_map_crc: int


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """The content of `index.json`."""

    version: int  # of the store's kind
    size: tuple[int, int]  # working size, (height, width)
    policy: Mapping[str, Any]  # the dataset's, as `Policy.content`
    rows: tuple[IndexRow, ...]  # one per image
    dropped: tuple[Dropped, ...]  # the images that the dataset's policy left out


_INDEX = TypeAdapter(StoreIndex)
_CHECKSUM = "crc32"  # key of the index's own checksum


def write_index(folder: Path, index: StoreIndex) -> None:
    """Write a store's index, whole, with a checksum of its content.

    Paths that text cannot hold are escaped in it; `prepare_store` finds the files anew.
    """
    rows = tuple(replace(row, record=_with_text_paths(row.record)) for row in index.rows)
    tree = _INDEX.dump_python(replace(index, rows=rows), mode="json")
    write_text(folder / INDEX, json.dumps({**tree, _CHECKSUM: tree_crc(tree)}, indent=1) + "\n")


def _with_text_paths(record: Record) -> Record:
    image, *masks = (Path(printable(str(path))) for path in (record.image, *record.masks))
    return replace(record, image=image, masks=tuple(masks))


def tree_crc(tree: object) -> int:
    """Compute the CRC-32 of a tree of JSON values, whatever the order of keys and the spaces it is written with."""
    return crc32(json.dumps(tree, sort_keys=True).encode())


def _read_index(folder: Path) -> StoreIndex:
    path = folder / INDEX
    try:
        tree = read_json(path)
        version = tree.get("version") if isinstance(tree, Mapping) else None
        if isinstance(version, int) and version != VERSION:
            raise DamagedStoreError(f"{folder}: a store of version {version}; {_remedy(folder)}")
        if not isinstance(tree, dict) or tree.pop(_CHECKSUM, None) != tree_crc(tree):
            raise _damaged(path)
        index = _INDEX.validate_python(tree)
    except (OSError, JSONTextError, ValidationError) as error:
        raise _damaged(path) from error
    ids = {row.record.id for row in index.rows}
    sizes = [*index.size, *(side for row in index.rows for side in (row.height, row.width))]
    if not index.rows or len(ids) < len(index.rows) or min(sizes) < 1:
        raise _damaged(path)
    return index


class DamagedStoreError(DatasetError):
    """A store's files are not as they were written; made anew from its dataset, it is whole again."""


def _damaged(path: Path, what: str = "") -> DamagedStoreError:
    return DamagedStoreError(f"{path}: damaged{what}; {_remedy(path.parent)}")


def _remedy(folder: Path) -> str:
    return f"delete the folder {folder} and give the same command again, which makes it anew"


def array_header(shape: tuple[int, ...]) -> bytes:
    r"""Return what stands before the bytes of a uint8 array in a `.npy` file (format 1.0), 128 bytes.

    Spelled out here so that every version of NumPy writes, and expects, the same.

    >>> array_header((10, 256, 256))[:10]
    b'\x93NUMPY\x01\x00v\x00'
    """
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117)
    return b"\x93NUMPY\x01\x00" + (len(described) + 1).to_bytes(2, "little") + described.encode() + b"\n"


class Pixels:
    """The images of a store, or its label maps: (n, H, W), mapped to memory, each checked when it is first read.

    A process checks an image once, against the CRC-32 that the index keeps of it: neither a disk that lost a block nor
    a copy that was cut short can give other numbers.

    Attributes:
        mapped: the map itself, which nothing checks.
    """

    def __init__(self, mapped: NDArray[np.uint8], path: Path, crcs: Sequence[int], names: Sequence[str]) -> None:
        self.mapped = mapped
        self.shape = mapped.shape
        self._path, self._crcs, self._names = path, crcs, names
        self._plain = mapped.view(np.ndarray)  # a map's rows are slower to take
        self._rows = np.arange(len(mapped))
        self._unchecked = np.ones(len(mapped), bool)

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Read as from an array; raise a `DamagedStoreError` if an image is not as it was written."""
        rows = np.atleast_1d(self._rows[index[0] if isinstance(index, tuple) else index])
        for row in rows[self._unchecked[rows]].tolist():
            if crc32(self._plain[row]) != self._crcs[row]:
                raise _damaged(self._path, f" where it holds {self._names[row]}")
            self._unchecked[row] = False
        found: NDArray[np.uint8] = self.mapped[index]
        return found


@dataclass(frozen=True)
class Store:
    """One dataset's images and label maps, all of one size, read through a memory map."""

    folder: Path  # where the store lies
    size: tuple[int, int]  # working size, (height, width)
    # One per row, patients merged where images are near-duplicates, and labelled normal where the label map is empty.
    records: tuple[Record, ...]
    original_sizes: tuple[tuple[int, int], ...]  # (height, width) of each source image
    policy: Mapping[str, Any]  # what of the dataset is used, as `Policy.content`
    dropped: tuple[Dropped, ...]  # images of the dataset that the policy left out, and why
    crcs: Mapping[str, tuple[int, ...]]  # CRC-32 of each image, and of each label map, by the name of their file

    @cached_property
    def images(self) -> Pixels:
        """Return the grey images, (n, H, W), 0 to 255."""
        return self._pixels(IMAGES)

    @cached_property
    def label_maps(self) -> Pixels:
        """Return the label maps, (n, H, W), values of `LABEL_VALUES`."""
        return self._pixels(LABEL_MAPS)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a finished store.

        Raises:
            DamagedStoreError: if the folder holds no store, one of another version, or one whose files are not as they
                were written. Of the pixels only their number is known by then: see `Pixels`.
        """
        index = _read_index(folder)
        records = tuple(row.record for row in index.rows)
        original_sizes = tuple((row.height, row.width) for row in index.rows)
        crcs = {
            IMAGES: tuple(row.image_crc for row in index.rows),
            LABEL_MAPS: tuple(row.label_map_crc for row in index.rows),
        }
        store = cls(folder, index.size, records, original_sizes, index.policy, index.dropped, crcs)
        for name in (IMAGES, LABEL_MAPS):
            store._map(name)  # whatever is wrong is known now, not in the middle of a training
        return store

    def check_pixels(self) -> None:
        """Read every image and label map; raise a `DamagedStoreError` if one is not as it was written."""
        for pixels in (self.images, self.label_maps):
            for row in range(len(pixels)):
                pixels[row]

    def _pixels(self, name: str) -> Pixels:
        return Pixels(self._map(name), self.folder / name, self.crcs[name], [record.id for record in self.records])

    def _map(self, name: str) -> NDArray[np.uint8]:
        """Map an array to memory, read-only, once its file is known to hold what it should.

        Reading behind the end of a file through a map would kill the process, so the size is checked first.
        """
        path, shape = self.folder / name, (len(self.records), *self.size)
        header = array_header(shape)
        try:
            with path.open("rb") as file:
                if file.read(len(header)) == header and os.fstat(file.fileno()).st_size == len(header) + prod(shape):
                    return np.memmap(file, np.uint8, mode="r", offset=len(header), shape=shape)
        except OSError as error:
            raise _damaged(path) from error
        raise _damaged(path)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open maps, which would be copied whole: another process opens its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Collection:
    """Several datasets' stores read as one, by record id.

    Holds nothing but paths and memory maps, so it is cheap to send to data workers.
    """

    def __init__(self, stores: Iterable[Store]) -> None:
        self.stores = tuple(stores)
        self._rows = {record.id: (store, row) for store in self.stores for row, record in enumerate(store.records)}

    @property
    def records(self) -> tuple[Record, ...]:
        """Return all records, store by store."""
        return tuple(record for store in self.stores for record in store.records)

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """Return the grey image, (H, W)."""
        store, row = self._find(record_id)
        return store.images[row]

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        """Return the label map, (H, W)."""
        store, row = self._find(record_id)
        return store.label_maps[row]

    def _find(self, record_id: str) -> tuple[Store, int]:
        try:
            return self._rows[record_id]
        except KeyError:
            raise DatasetError(f"{record_id}: no such record in these stores; prepare its dataset") from None
