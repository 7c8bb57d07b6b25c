"""Files of rows of one size, and the journal of the rows that are there."""

import json
import os
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from episodes.io.files import reserve_space, write_at
from episodes.io.yaml_json import JSONTextError, parse_json

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 128  # bytes


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
            reserve_space(self._descriptor, self._first + prod(shape))
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


def _header(shape: tuple[int, ...]) -> bytes:
    r"""What stands before the bytes of an array (format 1.0), spelled out here so that every NumPy writes the same.

    >>> _header((10, 256, 256))[:10]
    b'\x93NUMPY\x01\x00v\x00'
    """
    described = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(_HEADER - len(_MAGIC) - 3)
    return _MAGIC + (len(described) + 1).to_bytes(2, "little") + described.encode() + b"\n"


@dataclass(frozen=True, slots=True)
class DecodedRow:
    """What is known of an image once it is decoded.

    Attributes:
        height: of the source image.
        width: of the source image.
        lesion: whether its label map shows one at the working size.
        checksum: of the row's bytes in all files.
    """

    height: int
    width: int
    lesion: bool
    checksum: int


_ROW = TypeAdapter(DecodedRow)


class RowJournal:
    """A file whose first line is of row 0, the second of row 1, and so on.

    Attributes:
        rows: as far as the file is whole. What a killed process has left half-written at its end is written over.

    Raises:
        OSError: if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        lines = path.read_bytes().splitlines(keepends=True)
        self.rows: list[DecodedRow] = []
        for line in lines:
            row = _parse(line)
            if row is None:
                break
            self.rows.append(row)
        self._ends = [0]
        for line in lines[: len(self.rows)]:
            self._ends.append(self._ends[-1] + len(line))
        self.keep(len(self.rows))

    def keep(self, count: int) -> None:
        """Forget all rows but the first so many.

        Raises:
            OSError: if the system does not let it be written.
        """
        del self.rows[count:], self._ends[count + 1 :]
        os.ftruncate(self._descriptor, self._ends[-1])

    def add(self, row: DecodedRow) -> None:
        """Write the next row's line, and hand it to the system at once.

        Raises:
            OSError: if the disk does not take it.
        """
        line = json.dumps(asdict(row)).encode() + b"\n"
        write_at(self._descriptor, line, self._ends[-1])
        self._ends.append(self._ends[-1] + len(line))
        self.rows.append(row)

    def __enter__(self) -> "RowJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _parse(line: bytes) -> DecodedRow | None:
    """The row that a line is for; None where the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        return _ROW.validate_python(parse_json(line.decode()))
    except (UnicodeDecodeError, JSONTextError, ValidationError):
        return None
