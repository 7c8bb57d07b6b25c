"""Features that are too many for memory: kept in memory-mapped files, and read a few images at a time."""

import errno
import logging
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from weakref import finalize

import torch
from torch import Tensor

from episodes.errors import StorageError
from episodes.row_file import write_at
from fewshot.features import Features
from fewshot.memory.out_of_memory import NotEnoughMemoryError, within_memory
from fewshot.memory.pages import release_pages

logger = logging.getLogger(__name__)

GIB = 2**30
# How much of features is held in memory unless something else is asked for, in bytes.
FEATURE_MEMORY = GIB
# What a file system says that takes no space before it is written to.
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class SpilledFeatures:
    """As `Features` of many images, but on disk: what is taken from them are ordinary tensors, with the same bits.

    Memory holds what is being taken or put alone. The files have no names, so that nothing is left of them when the
    process ends, however it ends; their space is reserved at once, so that a disk that becomes full later does no harm.

    Args:
        like: features of some of the images; all are of its levels' shapes and types, and on its device when taken.
        count: how many images there are.
        folder: where the files lie.

    Raises:
        StorageError: if the disk is too small, or nothing can be written there; it says how much is needed.
    """

    def __init__(self, like: Features, count: int, folder: Path) -> None:
        self.size = like.size
        self.device = like.deepest.device
        self._what = f"{folder}: {n_bytes(like, count) / GIB:.2f} GiB of features"
        with self._taken_by_disk():
            folder.mkdir(parents=True, exist_ok=True)
            self._levels = tuple(MappedTensor((count, *level.shape[1:]), level.dtype, folder) for level in like.levels)

    def put(self, start: int, part: Features) -> None:
        """Keep the features of consecutive images, the first of which is `start`.

        Raises:
            StorageError: if the disk does not take them, as its space could not be reserved.
        """
        with self._taken_by_disk():
            for level, values in zip(self._levels, part.levels, strict=True):
                level.put(start, values)

    @contextmanager
    def _taken_by_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._what} cannot be written there ({error.strerror or error}); free so much space, or set `cache`"
                " to a folder on another disk"
            ) from error

    def take(self, rows: Sequence[int]) -> Features:
        """The features of some images, as a copy in memory."""
        return Features(tuple(level.take(rows).to(self.device) for level in self._levels), self.size)


class MappedTensor:
    """A tensor in a memory-mapped file without a name.

    Args:
        shape: first axis rows.
        dtype: any of torch's.
        folder: where the file lies.

    Raises:
        OSError: if it cannot be written there, or there is too little space.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> None:
        size = prod(shape) * dtype.itemsize
        with TemporaryFile(dir=folder, prefix=".features-") as file:
            self._file = os.dup(file.fileno())
        finalize(self, os.close, self._file)
        _reserve(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self._values = torch.frombuffer(self._map, dtype=dtype).view(shape)

    def put(self, start: int, values: Tensor) -> None:
        """Write consecutive rows, to the file: through the map, each of its pages would be a fault of its own.

        Raises:
            OSError: if the disk does not take them.
        """
        content = values.to("cpu").contiguous().flatten().view(torch.uint8).numpy()
        write_at(self._file, content.data, start * (len(content) // len(values)))

    def take(self, rows: Sequence[int]) -> Tensor:
        """A copy of some rows in memory."""
        taken = self._values[torch.tensor(rows)]
        release_pages(self._map)
        return taken


def room_for(like: Features, count: int, memory: int, folder: Path) -> Features | SpilledFeatures:
    """Where to put the features of many images: in memory, on their device, if they fit, else on disk.

    Args:
        like: features of some of them.
        count: how many images there are.
        memory: the most that may be held in memory, in bytes.
        folder: for files, if they do not fit.

    Raises:
        StorageError: as `SpilledFeatures`.
    """
    if n_bytes(like, count) <= memory:
        # A device that holds other things has perhaps not even that much.
        with suppress(NotEnoughMemoryError):
            return within_memory(partial(like.room, count), f"{like.deepest.device}, features of {count} images")
    kept = SpilledFeatures(like, count, folder)
    logger.info("features of %d images: %.1f GiB, kept on disk in %s", count, n_bytes(like, count) / GIB, folder)
    return kept


def n_bytes(like: Features, count: int) -> int:
    """What the features of so many images take, in bytes.

    >>> n_bytes(Features((torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 2, 2)), (32, 32)), 10)
    7680
    """
    return sum(count * level[0].numel() * level.element_size() for level in like.levels)


def _reserve(file: int, size: int) -> None:
    """Give an empty file its size, and its place on disk where the file system can take that beforehand.

    Raises:
        OSError: if there is too little space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    os.ftruncate(file, size)
