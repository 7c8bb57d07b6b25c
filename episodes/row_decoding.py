"""Decoding a dataset's images to rows on disk: by several threads, and from where a killed process stopped."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from episodes.decoding import read_image, read_label_map, stretch_image, stretch_labels
from episodes.duplicates import THUMBNAIL, thumbnail
from episodes.parallel import Progress, in_threads
from episodes.records import Record
from episodes.row_file import RowFile
from episodes.row_journal import DecodedRow, RowJournal
from episodes.store import IMAGES, LABEL_MAPS

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
