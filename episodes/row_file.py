"""Arrays on disk that are written row by row and read through a memory map; files as NumPy's own."""

import errno
import os
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 128  # bytes
# What a file system says that cannot take space before it is written to.
_CANNOT_ALLOCATE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class RowFile:
    """An array of bytes whose rows are written in any order, by any thread, and whose space is taken beforehand.

    Rows are written, not mapped: to write to a mapped file on a full disk kills the process, where `write` raises an
    error. An existing file of the same shape keeps its rows.

    Attributes:
        path: of the file, `.npy`.
        shape: (rows, ...).

    Raises:
        OSError: if it cannot be written, or there is not enough space for all of its rows.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape
        self._row_bytes = prod(shape[1:])
        header = _header(shape)
        self._first = len(header)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _allocate(self._descriptor, self._first + prod(shape))
            write_at(self._descriptor, header, 0)
        except OSError:
            os.close(self._descriptor)
            raise

    def write(self, row: int, values: NDArray[np.uint8]) -> None:
        """Write one row, uint8.

        Raises:
            OSError: if the disk does not take it.
        """
        write_at(self._descriptor, np.ascontiguousarray(values).tobytes(), self._first + row * self._row_bytes)

    def read(self, row: int) -> NDArray[np.uint8]:
        """Read one row as it was written."""
        content = os.pread(self._descriptor, self._row_bytes, self._first + row * self._row_bytes)
        return np.frombuffer(content, np.uint8).reshape(self.shape[1:])

    def put_on_disk(self) -> None:
        """Wait until what was written would outlive a loss of power."""
        os.fsync(self._descriptor)

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def size_on_disk(shape: tuple[int, ...]) -> int:
    """The bytes of such a file.

    >>> size_on_disk((10, 256, 256))
    655488
    """
    return len(_header(shape)) + prod(shape)


def map_rows(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map a finished file to memory, read-only, once it is known to hold what it should.

    To read behind the end of a file through a map kills the process, so the size is looked at first.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is another array, or has another size than it says.
    """
    header = _header(shape)
    with path.open("rb") as file:
        if file.read(len(header)) != header or os.fstat(file.fileno()).st_size != size_on_disk(shape):
            raise ValueError(f"not an array of {shape} bytes")
    return np.memmap(path, np.uint8, mode="r", offset=len(header), shape=shape)


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it: on a nearly full disk the system writes a part first, and fails the next time.

    Raises:
        OSError: if the disk does not take it.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _header(shape: tuple[int, ...]) -> bytes:
    r"""What stands before the bytes of an array (format 1.0), spelled out here so that every NumPy writes the same.

    >>> _header((10, 256, 256))[:10]
    b'\x93NUMPY\x01\x00v\x00'
    """
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(_HEADER - len(_MAGIC) - 3)
    return _MAGIC + (len(described) + 1).to_bytes(2, "little") + described.encode() + b"\n"


def _allocate(descriptor: int, size: int) -> None:
    """Make a file of a size, its space taken where the file system can do that; what is in it stays."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
    os.ftruncate(descriptor, size)
