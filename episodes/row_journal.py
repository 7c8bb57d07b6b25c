"""Which rows of a store are decoded: a line for each, written after its pixels, so that no killed process loses any."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter, ValidationError

from episodes.json_text import JSONTextError, parse_json
from episodes.row_file import write_at


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
