"""Encoder features: in memory, or on disk where they are too many for it."""

import logging
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryFile
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.errors import StorageError
from episodes.io.files import reserve_space, write_at
from fewshot.devices import NotEnoughMemoryError, within_memory

logger = logging.getLogger(__name__)
GIB = 2**30
# How much of features is held in memory unless something else is asked for, in bytes.
FEATURE_MEMORY = GIB


def release_pages(mapped: mmap.mmap | NDArray[np.generic]) -> None:
    """Stop counting a map's pages as this process's memory; reading them again brings them back.

    Nothing is lost: what was written is the file's, which the system keeps in its cache for as long as it has room.
    Without it a pass over a large file would leave all of it resident. `mapped` is a map, or an array over the whole of
    one, as `np.load(..., mmap_mode="r")` gives it; of any other array nothing is released.
    """
    source = mapped.base if isinstance(mapped, np.ndarray) else mapped
    if isinstance(source, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, slots=True)
class Features:
    """Encoder features of images of `size` (H, W), whatever the episode: levels (..., channels, h, w), finest first."""

    levels: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def deepest(self) -> Tensor:
        """Return the last level, (..., channels, h, w)."""
        return self.levels[-1]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Features":
        """Apply the same change to every level."""
        return Features(tuple(change(level) for level in self.levels), self.size)

    def last(self, count: int) -> "Features":
        """Return the deepest levels alone."""
        return Features(self.levels[-count:], self.size)

    def room(self, count: int) -> "Features":
        """Make room for the features of so many images like these; their values are arbitrary until they are put."""
        return self.map(lambda level: level.new_empty((count, *level.shape[1:])))

    def put(self, start: int, part: "Features") -> None:
        """Write the features of consecutive images of the first axis, the first of which is `start`."""
        for level, values in zip(self.levels, part.levels, strict=True):
            level[start : start + len(values)] = values

    def take(self, rows: Sequence[int]) -> "Features":
        """Return the features of some images of the first axis; without a copy where they follow each other."""
        return self.map(lambda level: take(level, rows))

    def unsqueeze(self) -> "Features":
        """Add one more leading axis of length 1."""
        return self.map(lambda level: level.unsqueeze(0))


def take(maps: Tensor, rows: Sequence[int]) -> Tensor:
    """Take rows of a tensor; without a copy where they follow each other.

    >>> import torch
    >>> take(torch.arange(5), [1, 2, 3]).tolist(), take(torch.arange(5), [3, 1]).tolist()
    ([1, 2, 3], [3, 1])
    """
    consecutive = all(later == earlier + 1 for earlier, later in pairwise(rows))
    return maps[rows[0] : rows[-1] + 1] if consecutive else maps[list(rows)]


def all_finite(values: Tensor) -> bool:
    """Tell whether no value is NaN or infinite: by the least and the greatest, in one pass that writes nothing.

    >>> all_finite(torch.tensor([1.0, 2.0])), all_finite(torch.tensor([1.0, -torch.inf, 2.0]))
    (True, False)
    """
    return not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all())


class SpilledFeatures:
    """Features of `count` images on disk; what is taken from them are ordinary tensors, with the same bits.

    Memory holds what is being taken or put alone. The files have no names, so that nothing is left of them when the
    process ends, however it ends; their space is reserved at once, so that a disk that becomes full later does no harm.
    All features are of the shapes, types and device of those in `like`.

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
        """Return the features of some images; without a copy, and read when used, where they follow each other."""
        return Features(tuple(level.take(rows).to(self.device) for level in self._levels), self.size)


class MappedTensor:
    """A tensor in a memory-mapped file without a name, in a folder.

    Raises:
        OSError: if it cannot be written there, or there is too little space.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> None:
        size = prod(shape) * dtype.itemsize
        with TemporaryFile(dir=folder, prefix=".features-") as file:
            self._file = os.dup(file.fileno())
        finalize(self, os.close, self._file)
        reserve_space(self._file, size)
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
        """Return some rows: as they are in the file where they follow each other, else a copy in memory."""
        release_pages(self._map)  # of what was taken without a copy before, and of what is copied now
        taken = take(self._values, rows)
        release_pages(self._map)
        return taken


def room_for(like: Features, count: int, memory: int, folder: Path) -> Features | SpilledFeatures:
    """Make room for `count` images' features like those given: on their device if `memory` bytes suffice, else on disk.

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
    """Count the bytes that the features of so many images take.

    >>> n_bytes(Features((torch.zeros(2, 8, 4, 4), torch.zeros(2, 16, 2, 2)), (32, 32)), 10)
    7680
    """
    return sum(count * level[0].numel() * level.element_size() for level in like.levels)
