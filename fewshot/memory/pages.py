"""Memory-mapped files: what was read or written of them need not stay in memory."""

import mmap

import numpy as np
from numpy.typing import NDArray


def release_pages(mapped: mmap.mmap | NDArray[np.generic]) -> None:
    """Stop counting a map's pages as this process's memory; reading them again brings them back.

    Nothing is lost: what was written is the file's, which the system keeps in its cache for as long as it has room.
    Without it a pass over a large file would leave all of it resident.

    Args:
        mapped: a map, or an array over the whole of one, as `np.load(..., mmap_mode="r")` gives it. Of any other array
            nothing is released.
    """
    source = mapped.base if isinstance(mapped, np.ndarray) else mapped
    if isinstance(source, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        source.madvise(mmap.MADV_DONTNEED)
