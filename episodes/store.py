"""Decode once: memory-mapped uint8 images and label maps of one dataset at the working size."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.decoding import read_image, read_label_map, stretch_image, stretch_labels
from episodes.duplicates import duplicate_groups, group_patients, thumbnail
from episodes.errors import DatasetError
from episodes.records import Record

logger = logging.getLogger(__name__)

# Raised whenever decoding, resizing or grouping changes, so that stores of an older kind are made anew.
VERSION = 1
INDEX = "index.json"

Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Store:
    """One dataset's images and label maps, all of one size, read through a memory map.

    Attributes:
        folder: where the store lies.
        records: one per row, patients merged where images are near-duplicates, and labelled normal where the label
            map is empty.
        original_sizes: (height, width) of each source image.
    """

    folder: Path
    records: tuple[Record, ...]
    original_sizes: tuple[tuple[int, int], ...]

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """Grey images, (n, H, W), 0 to 255."""
        return _memory_map(self.folder / "images.npy")

    @cached_property
    def label_maps(self) -> NDArray[np.uint8]:
        """Label maps, (n, H, W), values of `LABEL_VALUES`."""
        return _memory_map(self.folder / "label_maps.npy")

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a finished store.

        Raises:
            DatasetError: if the folder holds no store, or one of another version.
        """
        path = folder / INDEX
        try:
            index = json.loads(path.read_text())
            if index["version"] != VERSION:
                raise DatasetError(f"{folder}: a store of version {index['version']}; run `fewshot data prepare` again")
            records = tuple(_record_from_json(row["record"]) for row in index["rows"])
            sizes = tuple((row["height"], row["width"]) for row in index["rows"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: damaged; delete its folder and run `fewshot data prepare` again") from error
        return cls(folder, records, sizes)

    def __getstate__(self) -> dict[str, Any]:
        """Without the open maps, which would be copied whole: another process opens its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def prepare_store(
    records: Sequence[Record], parent: Path, size: tuple[int, int], progress: Progress | None = None
) -> Store:
    """Open the store of these records at this size, decoding them first where there is none yet.

    The store's folder is named by a hash of the records' facts and their files' bytes, so a changed, added or removed
    file leads to another folder: nothing stale is ever read, and a reader of the old store is not disturbed. It is
    written under a temporary name and renamed when complete.

    Args:
        records: one dataset's records.
        parent: the folder that holds all stores.
        size: working size, (height, width) in pixels; images are stretched to it (antialiased), label maps take
            the nearest pixel.
        progress: called after each image with the number done and the total.

    Raises:
        DatasetError: if there are no records, or a file cannot be decoded.
    """
    if not records:
        raise DatasetError("no records to prepare: the dataset is empty")
    records = sorted(records, key=lambda record: record.id)
    with ThreadPoolExecutor() as pool:
        hashes = list(pool.map(_source_hash, records))
    folder = parent / f"{records[0].dataset}-{size[0]}x{size[1]}-{_store_key(records, hashes, size)}"
    if not (folder / INDEX).is_file():
        _write_store(records, hashes, folder, size, progress)
    store = Store.open(folder)
    # The dataset may have moved since the store was written.
    moved = zip(store.records, records, strict=True)
    return replace(store, records=tuple(replace(old, image=new.image, masks=new.masks) for old, new in moved))


def _write_store(
    records: Sequence[Record],
    hashes: Sequence[str],
    folder: Path,
    size: tuple[int, int],
    progress: Progress | None,
) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        shape = (len(records), *size)
        images = np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
        labels = np.lib.format.open_memmap(partial / "label_maps.npy", mode="w+", dtype=np.uint8, shape=shape)
        original_sizes, thumbnails = [], []
        with ThreadPoolExecutor() as pool:
            for row, decoded in enumerate(pool.map(lambda record: _decode(record, size), records)):
                images[row], labels[row], small, original_size = decoded
                original_sizes.append(original_size)
                thumbnails.append(small)
                if progress is not None:
                    progress(row + 1, len(records))
        shown = [_label_by_sight(record, label_map) for record, label_map in zip(records, labels, strict=True)]
        grouped = group_patients(shown, duplicate_groups(np.stack(thumbnails)))
        images.flush()
        labels.flush()
        rows = [
            {"record": _record_to_json(record), "source": source, "height": height, "width": width}
            for record, source, (height, width) in zip(grouped, hashes, original_sizes, strict=True)
        ]
        (partial / INDEX).write_text(json.dumps({"version": VERSION, "rows": rows}, indent=1))
        _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, folder: Path) -> None:
    """Give a complete store its name, unless another process finished the same store first."""
    if folder.is_dir() and not (folder / INDEX).is_file():
        shutil.rmtree(folder)  # what is left of a store without its index is none
    try:
        partial.rename(folder)
    except OSError:
        if not (folder / INDEX).is_file():
            raise


def _decode(
    record: Record, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
    image = read_image(record.image)
    label_map = read_label_map(record, image.shape)
    shape = (image.shape[0], image.shape[1])
    return stretch_image(image, size), stretch_labels(label_map, size), thumbnail(image), shape


def _label_by_sight(record: Record, label_map: NDArray[np.uint8]) -> Record:
    """The record, as a normal where no lesion is drawn in at the working size: it cannot support or be found."""
    if not record.has_lesion or label_map.any():
        return record
    if record.label != "unknown":
        logger.warning("%s: labelled %s, but no pixel of its mask is left: taken as normal", record.id, record.label)
    return replace(record, label="normal")


def _source_hash(record: Record) -> str:
    digest = sha256()
    for path in (record.image, *record.masks):
        try:
            digest.update(sha256(path.read_bytes()).digest())
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    return digest.hexdigest()


def _store_key(records: Sequence[Record], hashes: Sequence[str], size: tuple[int, int]) -> str:
    # All that the index repeats of a record, but not where its files lie.
    facts = [
        [record.id, source, {k: v for k, v in asdict(record).items() if k not in {"image", "masks"}}]
        for record, source in zip(records, hashes, strict=True)
    ]
    return sha256(json.dumps([VERSION, size, facts], sort_keys=True).encode()).hexdigest()[:16]


def _memory_map(path: Path) -> NDArray[np.uint8]:
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged; delete its folder and run `fewshot data prepare` again") from error
    return array


def _record_to_json(record: Record) -> dict[str, Any]:
    return asdict(record) | {"image": str(record.image), "masks": [str(path) for path in record.masks]}


def _record_from_json(fields: Mapping[str, Any]) -> Record:
    spacing = fields["spacing"]
    return Record(
        **dict(fields)
        | {
            "image": Path(fields["image"]),
            "masks": tuple(map(Path, fields["masks"])),
            "spacing": tuple(spacing) if spacing else None,
        }
    )


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
