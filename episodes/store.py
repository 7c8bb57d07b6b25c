"""The store: memory-mapped uint8 images and label maps of one dataset at the working size, decoded once.

It is written by `episodes.preparation`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import DatasetError
from episodes.policies import Dropped
from episodes.records import Record
from episodes.row_file import map_rows
from episodes.store_index import damaged, read_index

IMAGES = "images.npy"
LABEL_MAPS = "label_maps.npy"


@dataclass(frozen=True)
class Store:
    """One dataset's images and label maps, all of one size, read through a memory map.

    Attributes:
        folder: where the store lies.
        size: working size, (height, width).
        records: one per row, patients merged where images are near-duplicates, and labelled normal where the label
            map is empty.
        original_sizes: (height, width) of each source image.
        policy: what of the dataset is used, as `Policy.content`.
        dropped: images of the dataset that the policy left out, and why.
    """

    folder: Path
    size: tuple[int, int]
    records: tuple[Record, ...]
    original_sizes: tuple[tuple[int, int], ...]
    policy: Mapping[str, Any]
    dropped: tuple[Dropped, ...]

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """Grey images, (n, H, W), 0 to 255."""
        return self._map(IMAGES)

    @cached_property
    def label_maps(self) -> NDArray[np.uint8]:
        """Label maps, (n, H, W), values of `LABEL_VALUES`."""
        return self._map(LABEL_MAPS)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a finished store.

        Raises:
            DatasetError: if the folder holds no store, one of another version, or one whose files are not as they were
                written.
        """
        index = read_index(folder)
        records = tuple(row.record for row in index.rows)
        original_sizes = tuple((row.height, row.width) for row in index.rows)
        store = cls(folder, index.size, records, original_sizes, index.policy, index.dropped)
        for name in (IMAGES, LABEL_MAPS):
            store._map(name)  # whatever is wrong is known now, not in the middle of a training
        return store

    def _map(self, name: str) -> NDArray[np.uint8]:
        path = self.folder / name
        try:
            return map_rows(path, (len(self.original_sizes), *self.size))
        except (OSError, ValueError) as error:
            raise damaged(path) from error

    def __getstate__(self) -> dict[str, Any]:
        """Without the open maps, which would be copied whole: another process opens its own."""
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
        """All records, store by store."""
        return tuple(record for store in self.stores for record in store.records)

    def image(self, record_id: str) -> NDArray[np.uint8]:
        """The grey image, (H, W)."""
        store, row = self._find(record_id)
        image: NDArray[np.uint8] = store.images[row]
        return image

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        """The label map, (H, W)."""
        store, row = self._find(record_id)
        label_map: NDArray[np.uint8] = store.label_maps[row]
        return label_map

    def _find(self, record_id: str) -> tuple[Store, int]:
        try:
            return self._rows[record_id]
        except KeyError:
            raise DatasetError(f"{record_id}: no such record in these stores; prepare its dataset") from None
