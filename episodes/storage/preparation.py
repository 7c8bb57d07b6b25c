"""Preparing a store: decode a dataset once, follow its policy, and survive whatever happens meanwhile."""

import errno
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from episodes.curation.corrections import Curated, count_by_reason
from episodes.curation.near_duplicates import THUMBNAIL, duplicate_groups, settle_duplicates, thumbnail
from episodes.curation.policy import Policy, curate, require_some
from episodes.errors import DatasetError, StorageError
from episodes.images.decoding import read_image, read_label_map, stretch_image, stretch_labels
from episodes.io.files import file_hash, waiting_lock
from episodes.parallel import Progress, in_threads
from episodes.records import Record
from episodes.storage.row_file import DecodedRow, RowFile, RowJournal, map_rows, size_on_disk
from episodes.storage.store import IMAGES, INDEX, LABEL_MAPS, VERSION, IndexRow, Store, StoreIndex, write_index

logger = logging.getLogger(__name__)

THUMBNAILS = "thumbnails.npy"
JOURNAL = "rows.jsonl"

Files = Sequence[RowFile]


def row_files(count: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """The files that images are decoded to, and the shapes of what they hold.

    Args:
        count: how many images.
        size: working size, (height, width).
    """
    return {IMAGES: (count, *size), LABEL_MAPS: (count, *size), THUMBNAILS: (count, THUMBNAIL, THUMBNAIL)}


def decode_rows(
    records: Sequence[Record],
    folder: Path,
    size: tuple[int, int],
    progress: Progress | None = None,
    threads: int | None = None,
) -> list[DecodedRow]:
    """Decode every record to a row of the files `row_files`, and write a line of the journal for each.

    Rows that the journal says to be decoded are so only if their bytes have its checksum: after a loss of power a line
    may be there and its pixels not.

    Args:
        records: whose images; those of an earlier call in this folder must have been the same.
        folder: where the files lie, or are to lie.
        size: working size, (height, width).
        progress: called after each image with the number done and the total.
        threads: how many decode; what comes out does not depend on it. None for as many as suit the machine.

    Returns:
        What was found, one per record.

    Raises:
        DatasetError: if a file cannot be decoded.
        OSError: if the files cannot be written.
    """
    with ExitStack() as opened:
        shapes = row_files(len(records), size)
        files = [opened.enter_context(RowFile(folder / name, shape)) for name, shape in shapes.items()]
        journal = opened.enter_context(RowJournal(folder / JOURNAL))
        journal.keep(_count_intact(journal.rows[: len(records)], files))
        done = len(journal.rows)
        if done:
            logger.info("%s: %d of %d images were decoded before", records[0].dataset, done, len(records))

        def decode(row: int) -> DecodedRow:
            return _decode(records[row], row, files, size)

        for decoded in in_threads(decode, range(done, len(records)), threads=threads):
            journal.add(decoded)
            if progress is not None:
                progress(len(journal.rows), len(records))
        for file in files:
            file.put_on_disk()
        return journal.rows


def _decode(record: Record, row: int, files: Files, size: tuple[int, int]) -> DecodedRow:
    """Decode one record and write its row to all files."""
    image = read_image(record.image, record.frame)
    height, width = image.shape
    label_map = stretch_labels(read_label_map(record, (height, width)), size)
    values = stretch_image(image, size), label_map, thumbnail(image)
    for file, part in zip(files, values, strict=True):
        file.write(row, part)
    return DecodedRow(height, width, bool(label_map.any()), _checksum(values))


def _count_intact(rows: Sequence[DecodedRow], files: Files) -> int:
    """How many rows from the first on have the bytes that were written."""
    for number, row in enumerate(rows):
        if _checksum([file.read(number) for file in files]) != row.checksum:
            return number
    return len(rows)


def _checksum(parts: Sequence[NDArray[np.uint8]]) -> int:
    value = 0
    for part in parts:
        value = crc32(np.ascontiguousarray(part).data, value)
    return value


_KEPT = "kept-"  # before the name of an array without the rows that are dropped, until it takes the whole one's place
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def prepare_store(
    records: Sequence[Record],
    parent: Path,
    size: tuple[int, int],
    progress: Progress | None = None,
    *,
    policy: Policy | None = None,
    threads: int | None = None,
) -> Store:
    """Open the store of these records at this size, decoding them first where there is none yet.

    The store's folder is named by a hash of the records' facts, their files' bytes and what the policy makes of them,
    so a changed, added or removed file leads to another folder: nothing stale is ever read, and a reader of the old
    store is not disturbed.

    It is written under one temporary name per store, by one process at a time, and renamed when complete. A second
    process waits, and opens what the first has finished. What a killed process has decoded is not decoded again, and
    the store ends with the same bytes. Its space is taken before anything is decoded.

    Args:
        records: one dataset's records.
        parent: the folder that holds all stores.
        size: working size, (height, width) in pixels; images are stretched to it (antialiased), label maps take
            the nearest pixel.
        progress: called after each image with the number done and the total.
        policy: what of the dataset is used; by default all but near-duplicates whose labels contradict each other.
        threads: how many decode; None for as many as suit the machine.

    Raises:
        DatasetError: if there are no records, a file cannot be decoded, or the policy does not fit the dataset or
            leaves nothing of it.
        StorageError: if the store cannot be written; a full disk is told from the bytes that it needs.
    """
    if not records:
        raise DatasetError("no records to prepare: the dataset is empty")
    policy = policy or Policy()
    curated = curate(sorted(records, key=lambda record: record.id), policy)
    job = _Job(curated, _source_hashes(curated.records), size, policy)
    folder = parent / job.name
    if not (folder / INDEX).is_file():
        with waiting_lock(folder):
            if not (folder / INDEX).is_file():
                _write_store(job, folder, progress, threads)
    store = Store.open(folder)
    for reason, count in count_by_reason(store.dropped).items():
        logger.info("%s: %d of %d images are left out: %s", records[0].dataset, count, len(records), reason)
    return _at_home(store, curated.records)


@dataclass(frozen=True, slots=True)
class _Job:
    """What a store is made of.

    Attributes:
        curated: what the policy leaves before anything is decoded, sorted by id.
        hashes: of the files of each of its records.
        size: working size.
        policy: the dataset's.
    """

    curated: Curated
    hashes: Sequence[str]
    size: tuple[int, int]
    policy: Policy

    @property
    def name(self) -> str:
        """The name of the store's folder."""
        # All that the index repeats of a record, but not where its files lie.
        facts = [
            [record.id, source, {k: v for k, v in asdict(record).items() if k not in {"image", "masks"}}]
            for record, source in zip(self.curated.records, self.hashes, strict=True)
        ]
        dropped = [one.id for one in self.curated.dropped]
        content = json.dumps([VERSION, self.size, self.policy.content, facts, dropped], sort_keys=True)
        key = sha256(content.encode()).hexdigest()[:16]
        return f"{self.curated.records[0].dataset}-{self.size[0]}x{self.size[1]}-{key}"


def _write_store(job: _Job, folder: Path, progress: Progress | None, threads: int | None) -> None:
    """Write a store, or what is missing of it."""
    partial = folder.with_name(f".{folder.name}.partial")
    records = job.curated.records
    try:
        if not (partial / INDEX).is_file():
            with _room_for(folder, row_files(len(records), job.size).values()):
                partial.mkdir(parents=True, exist_ok=True)
                rows = decode_rows(records, partial, job.size, progress, threads)
            _settle(job, rows, partial, folder)
        with _room_for(folder, ()):
            _put_in_place(partial, folder)
    except DatasetError:
        # Another file, or another policy, has another store: nobody would come back to what was decoded.
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except StorageError:
        if not any((partial / name).is_file() for name in (JOURNAL, INDEX)):
            # Not even begun: what little space was had is given back.
            shutil.rmtree(partial, ignore_errors=True)
        raise


def _settle(job: _Job, rows: Sequence[DecodedRow], partial: Path, folder: Path) -> None:
    """Follow the policy that needs pixels, and write the index: from then on only names change."""
    records = job.curated.records
    thumbnails = map_rows(partial / THUMBNAILS, row_files(len(records), job.size)[THUMBNAILS])
    left = settle_duplicates(records, duplicate_groups(thumbnails), job.policy.duplicates)
    require_some(left, records[0].dataset)
    places = {record.id: place for place, record in enumerate(records)}
    kept = [places[record.id] for record in left.records]
    if len(kept) < len(records):
        with _room_for(folder, [(len(kept), *job.size)] * 2):
            _copy_rows(kept, len(records), job.size, partial)
    index = tuple(
        IndexRow(_label_by_sight(record, rows[place]), job.hashes[place], rows[place].height, rows[place].width)
        for record, place in zip(left.records, kept, strict=True)
    )
    dropped = (*job.curated.dropped, *left.dropped)
    write_index(partial, StoreIndex(VERSION, job.size, job.policy.content, index, dropped))


def _copy_rows(kept: Sequence[int], count: int, size: tuple[int, int], partial: Path) -> None:
    """Write the arrays anew without the rows that are dropped."""
    for name in (IMAGES, LABEL_MAPS):
        whole = map_rows(partial / name, (count, *size))
        with RowFile(partial / f"{_KEPT}{name}", (len(kept), *size)) as file:
            for row, place in enumerate(kept):
                file.write(row, whole[place])
            file.put_on_disk()


def _put_in_place(partial: Path, folder: Path) -> None:
    """Give a complete store its name; every step can be the last before the process is killed."""
    for name in (IMAGES, LABEL_MAPS):
        if (partial / f"{_KEPT}{name}").is_file():
            (partial / f"{_KEPT}{name}").replace(partial / name)
    for path in list(partial.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)  # an index that was never finished
        elif path.name not in {IMAGES, LABEL_MAPS, INDEX}:
            path.unlink()
    if folder.is_dir():
        shutil.rmtree(folder)  # what is left of a store without its index is none
    partial.rename(folder)


@contextmanager
def _room_for(folder: Path, shapes: Iterable[tuple[int, ...]]) -> Iterator[None]:
    """Say which folder has no room for files of these shapes, or what else the system did not let us write."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise StorageError.of(folder, error) from error
        raise StorageError(
            f"{folder.parent}: {folder.name} takes {sum(map(size_on_disk, shapes)):,} bytes there, and there is no room"
            f" for them ({error.strerror}); free some, or choose another `cache`, then give the same command again"
        ) from error


def _label_by_sight(record: Record, row: DecodedRow) -> Record:
    """The record, as a normal where no lesion is drawn in at the working size: it cannot support or be found."""
    if not record.has_lesion or row.lesion:
        return record
    if record.label != "unknown":
        logger.warning("%s: labelled %s, but no pixel of its mask is left: taken as normal", record.id, record.label)
    return replace(record, label="normal")


def _source_hashes(records: Sequence[Record]) -> list[str]:
    """A hash of each record's files; one that several records share, such as a clip, is read once."""
    paths = list(dict.fromkeys(path for record in records for path in (record.image, *record.masks)))
    digests = dict(zip(paths, in_threads(_file_digest, paths), strict=True))
    return [sha256(b"".join(digests[path] for path in (one.image, *one.masks))).hexdigest() for one in records]


def _file_digest(path: Path) -> bytes:
    try:
        return bytes.fromhex(file_hash(path))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); restore the file") from error


def _at_home(store: Store, records: Sequence[Record]) -> Store:
    """The store, its records with the files' present places: the dataset may have moved since it was written."""
    present = {record.id: record for record in records}
    moved = [replace(old, image=present[old.id].image, masks=present[old.id].masks) for old in store.records]
    return replace(store, records=tuple(moved))
