"""Preparing a store: each image is decoded once, to a file of its own; then the files are stacked."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from episodes.curation.near_duplicates import THUMBNAIL, duplicate_groups, settle_duplicates, thumbnail
from episodes.curation.policy import Curated, Policy, count_by_reason, curate, require_some
from episodes.errors import OUT_OF_ROOM, DatasetError, StorageError
from episodes.images.decoding import decode_masks, read_image, stretch_image, stretch_labels
from episodes.images.grey_scales import describe_full_scales
from episodes.io.files import file_hash, hidden_beside, reserve_space
from episodes.io.locks import waiting_lock
from episodes.parallel import Progress, in_threads
from episodes.records import Record
from episodes.storage.store import (
    IMAGES,
    INDEX,
    LABEL_MAPS,
    VERSION,
    DamagedStoreError,
    IndexRow,
    Store,
    StoreIndex,
    array_header,
    write_index,
)

logger = logging.getLogger(__name__)

_HEADERS = 2048  # bytes, the most that a decoded image's file takes beside its arrays


def prepare_store(
    records: Sequence[Record],
    parent: Path,
    size: tuple[int, int],
    progress: Progress | None = None,
    *,
    policy: Policy | None = None,
    threads: int | None = None,
    check_pixels: bool = False,
) -> Store:
    """Open the store of these records at this size, decoding them first where there is none yet, or a damaged one.

    The store's folder is named by a hash of the records' facts, their files' bytes and what the policy makes of them,
    so a changed, added or removed file leads to another folder: nothing stale is ever read, and a reader of the old
    store is not disturbed.

    It is written in one hidden folder per store, by one process at a time, which is renamed when complete. A second
    process waits, and opens what the first has finished. What a killed process has decoded is not decoded again, and
    the store ends with the same bytes. Meanwhile it takes twice its space on disk, which is checked before anything is
    decoded.

    To the working size, (height, width) in pixels, images are stretched (antialiased), and label maps take the nearest
    pixel. By default all but near-duplicates whose labels contradict each other are used. With `check_pixels` every
    image of a store that is there is checked now, and not when it is first read. Progress and threads are those of
    `episodes.parallel.in_threads`.

    Raises:
        DatasetError: if there are no records, a file cannot be decoded, or the policy does not fit the dataset or
            leaves nothing of it.
        StorageError: if the store cannot be written; a full disk is told from the bytes that it needs.
    """
    if not records:
        raise DatasetError("no records to prepare: the dataset is empty")
    policy = policy or Policy()
    curated = curate(sorted(records, key=lambda record: record.id), policy)
    preparation = _Preparation(parent, curated, _source_hashes(curated.records), size, policy)
    store = _open(preparation.folder, logging.DEBUG, check_pixels=check_pixels)
    if store is None:
        with waiting_lock(preparation.folder):  # in which another process may have finished it
            store = _open(preparation.folder, logging.WARNING, check_pixels=check_pixels)
            store = store or preparation.run(progress, threads)
    for reason, count in count_by_reason(store.dropped).items():
        logger.info("%s: %d of %d images are left out: %s", records[0].dataset, count, len(records), reason)
    for line in describe_full_scales(record.full_scale for record in store.records):
        logger.info("%s: %s", records[0].dataset, line)
    present = {record.id: record for record in curated.records}  # the dataset may have moved since it was decoded
    moved = (replace(old, image=present[old.id].image, masks=present[old.id].masks) for old in store.records)
    return replace(store, records=tuple(moved))


def _open(folder: Path, level: int, *, check_pixels: bool) -> Store | None:
    """Open a store where there is one that was finished; a damaged one counts as none, and is logged at that level."""
    if not (folder / INDEX).is_file():
        return None
    try:
        store = Store.open(folder)
        if check_pixels:
            store.check_pixels()
    except DamagedStoreError as error:
        logger.log(level, "%s: it is made anew", str(error).partition(";")[0])
        return None
    return store


def _source_hashes(records: Sequence[Record]) -> list[str]:
    """Hash each record's files; one that several records share, such as a clip, is read once."""
    paths = list(dict.fromkeys(path for record in records for path in (record.image, *record.masks)))
    digests = dict(zip(paths, in_threads(_file_digest, paths), strict=True))
    return [sha256(b"".join(digests[path] for path in (one.image, *one.masks))).hexdigest() for one in records]


def _file_digest(path: Path) -> bytes:
    try:
        return bytes.fromhex(file_hash(path))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); restore the file") from error


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The facts of a decoded image, besides its pixels at the working size."""

    height: int  # of the source image
    width: int  # of the source image
    lesion: bool  # whether its label map shows one
    drawn: bool  # whether its masks mark anything, which a label `normal` contradicts
    doubtful: bool  # whether there are doubts about its masks
    thumbnail: NDArray[np.uint8]  # of the source image, see `episodes.curation.near_duplicates.thumbnail`


def _decode(record: Record, path: Path, size: tuple[int, int]) -> _Decoded:
    """Decode one record to a file, which is there whole or not at all."""
    image = read_image(record.image, record.frame, record.full_scale)
    height, width = image.shape
    masks = decode_masks(record, (height, width))
    label_map = stretch_labels(masks.labels, size)
    lesion, drawn = bool(label_map.any()), bool(masks.drawn.any())
    decoded = _Decoded(height, width, lesion, drawn, bool(masks.doubts), thumbnail(image))
    arrays: dict[str, Any] = {IMAGES: stretch_image(image, size), LABEL_MAPS: label_map, **asdict(decoded)}
    content = BytesIO()
    np.savez(content, **arrays)
    # Not `write_bytes`, which waits for the disk after each file: `_read_decoded` notices one that lost bytes.
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content.getvalue())
    unfinished.replace(path)
    return decoded


def _read_decoded(path: Path) -> _Decoded | None:
    """Read the file of a decoded image; None if it is not there, or has lost bytes in a loss of power.

    The checksums in the file tell that, so that nothing waits for the disk after each image.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays}
        lesion, drawn, doubtful = (bool(values[name]) for name in ("lesion", "drawn", "doubtful"))
        return _Decoded(int(values["height"]), int(values["width"]), lesion, drawn, doubtful, values["thumbnail"])
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


@dataclass(frozen=True)
class _Preparation:
    """The making of one store."""

    parent: Path  # the folder that holds all stores
    curated: Curated  # what the policy leaves before anything is decoded, sorted by id
    hashes: Sequence[str]  # of the files of each of its records
    size: tuple[int, int]  # working size
    policy: Policy  # the dataset's

    @cached_property
    def folder(self) -> Path:
        """Return the store's folder."""
        # All that the index repeats of a record, but not where its files lie.
        facts = [
            [record.id, source, {k: v for k, v in asdict(record).items() if k not in {"image", "masks"}}]
            for record, source in zip(self.curated.records, self.hashes, strict=True)
        ]
        dropped = [one.id for one in self.curated.dropped]
        content = json.dumps([VERSION, self.size, self.policy.content, facts, dropped], sort_keys=True)
        key = sha256(content.encode()).hexdigest()[:16]
        return self.parent / f"{self.curated.records[0].dataset}-{self.size[0]}x{self.size[1]}-{key}"

    @property
    def partial(self) -> Path:
        """Return the hidden folder in which it is made; one name for all tries, so that work goes on after a kill."""
        return hidden_beside(self.folder, "partial")

    @property
    def files(self) -> list[Path]:
        """Return the files of the decoded images."""
        return [self.partial / "decoded" / f"{row}.npz" for row in range(len(self.hashes))]

    def run(self, progress: Progress | None, threads: int | None) -> Store:
        """Write the store, or what is missing of it, and open it."""
        try:
            with self._room():
                if not (self.partial / INDEX).is_file():
                    self._stack(self._decode_all(progress, threads))
                self._put_in_place()
        except DatasetError:
            # Another file, or another policy, has another store: nobody would come back to what was decoded.
            shutil.rmtree(self.partial, ignore_errors=True)
            raise
        except StorageError:
            if not any(path.is_file() for path in (self.partial / INDEX, *self.files)):
                # Not even begun: what little space was had is given back.
                shutil.rmtree(self.partial, ignore_errors=True)
            raise
        return Store.open(self.folder)

    def _decode_all(self, progress: Progress | None, threads: int | None) -> list[_Decoded]:
        """Take the space that is needed, and decode every record whose file is not there yet."""
        records, files = self.curated.records, self.files
        files[0].parent.mkdir(parents=True, exist_ok=True)
        array_bytes, file_bytes = self._sizes()
        for name in (IMAGES, LABEL_MAPS):
            with (self.partial / name).open("ab") as file:
                reserve_space(file.fileno(), array_bytes)
        decoded = list(in_threads(_read_decoded, files, threads=threads))
        missing = [row for row, found in enumerate(decoded) if found is None]
        if shutil.disk_usage(self.partial).free < len(missing) * file_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        before = len(files) - len(missing)
        if before:
            logger.info("%s: %d of %d images were decoded before", records[0].dataset, before, len(files))
        work = in_threads(lambda row: _decode(records[row], files[row], self.size), missing, threads=threads)
        for done, (row, found) in enumerate(zip(missing, work, strict=True), start=before + 1):
            decoded[row] = found
            if progress is not None:
                progress(done, len(files))
        return [found for found in decoded if found is not None]

    def _stack(self, decoded: Sequence[_Decoded]) -> None:
        """Follow the policy that needs pixels, and write the arrays and the index: from then on only names change."""
        records = self.curated.records
        _announce(records, decoded)
        groups = duplicate_groups([one.thumbnail for one in decoded])
        left = settle_duplicates(records, groups, self.policy.duplicates)
        require_some(left, records[0].dataset)
        places = {record.id: place for place, record in enumerate(records)}
        kept = [places[record.id] for record in left.records]
        image_crcs, label_map_crcs = self._write_array(IMAGES, kept), self._write_array(LABEL_MAPS, kept)
        index = tuple(
            _index_row(record, self.hashes[place], decoded[place], *crcs)
            for record, place, *crcs in zip(left.records, kept, image_crcs, label_map_crcs, strict=True)
        )
        dropped = (*self.curated.dropped, *left.dropped)
        write_index(self.partial, StoreIndex(VERSION, self.size, self.policy.content, index, dropped))

    def _write_array(self, name: str, kept: Sequence[int]) -> list[int]:
        """Write the file of the images or label maps that are kept, and return the CRC-32 of each."""
        crcs = []
        with (self.partial / name).open("r+b") as array:
            array.write(array_header((len(kept), *self.size)))
            for place in kept:
                with np.load(self.files[place], allow_pickle=False) as arrays:  # which checks what it reads
                    content = arrays[name].tobytes()
                array.write(content)
                crcs.append(crc32(content))
            array.truncate()
            os.fsync(array.fileno())
        return crcs

    def _put_in_place(self) -> None:
        """Give a complete store its name; every step can be the last before the process is killed."""
        for path in self.partial.iterdir():
            if path.is_dir():
                shutil.rmtree(path)  # the decoded images, or an index that was never finished
        if self.folder.is_dir():
            shutil.rmtree(self.folder)  # what is left of a store without its index is none
        self.partial.rename(self.folder)

    def _sizes(self) -> tuple[int, int]:
        """Return the bytes of an array of all images, and of one decoded image's file."""
        shape = (len(self.hashes), *self.size)
        return len(array_header(shape)) + prod(shape), 2 * prod(self.size) + THUMBNAIL**2 + _HEADERS

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say how much room a store takes where there is too little, or what else the system did not let us write."""
        try:
            yield
        except OSError as error:
            if error.errno not in OUT_OF_ROOM:
                raise StorageError.of(self.folder, error) from error
            array_bytes, file_bytes = self._sizes()
            needed = 2 * array_bytes + len(self.hashes) * file_bytes
            raise StorageError(
                f"{self.parent}: {self.folder.name} takes {needed:,} bytes there, and there is no room for them"
                f" ({error.strerror}); free some, or choose another `cache`, then give the same command again"
            ) from error


def _announce(records: Sequence[Record], decoded: Sequence[_Decoded]) -> None:
    """Say where masks and labels contradict each other, or masks may not mean what they say: a line of each kind."""
    pairs = list(zip(records, decoded, strict=True))
    lost = [record for record, found in pairs if record.has_lesion and not found.lesion]
    kinds = {
        "labelled benign or malignant, but nothing is marked: taken as normal": [
            record for record in lost if record.label != "unknown"
        ],
        "without a label, and nothing is marked: taken as normal": [
            record for record in lost if record.label == "unknown"
        ],
        "labelled normal, but a mask marks a lesion: taken as the label says": [
            record for record, found in pairs if record.label == "normal" and found.drawn and not found.lesion
        ],
        "whose mask may not mean what it says: `fewshot data check` says why": [
            record for record, found in pairs if found.doubtful
        ],
    }
    for what, concerned in kinds.items():
        if concerned:
            logger.warning(
                "%s: %d of %d images %s (first: %s)",
                *(records[0].dataset, len(concerned), len(records), what, concerned[0].id),
            )


def _index_row(record: Record, source: str, decoded: _Decoded, image_crc: int, label_map_crc: int) -> IndexRow:
    """Describe an image; a normal where no lesion is drawn in: it cannot support or be found."""
    if record.has_lesion and not decoded.lesion:
        record = replace(record, label="normal")
    return IndexRow(record, source, decoded.height, decoded.width, image_crc, label_map_crc)
