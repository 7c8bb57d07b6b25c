"""Metrics of a training, always in a local file."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from episodes.errors import StorageError
from episodes.files import write_text


class Tracker:
    """Writes one JSON line per step.

    The file is the only one that grows in place. That is safe: each line is given to the system as soon as it is
    complete, `keep` waits until the lines are on the disk before a state is saved that says they are there, and what a
    killed process wrote after its last saved state, perhaps half a line, belongs to steps that come again.

    Training that goes on from a saved state logs some steps again: the first one logged replaces what an earlier
    process wrote of it and after it.

    Args:
        path: of the file; its folder is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # every line that could be written is written
                self._file.close()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step.

        Raises:
            StorageError: if they cannot be written.
        """
        try:
            if self._file is None:
                self._file = self._open(step)
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
        except OSError as error:
            raise StorageError.of(self.path, error) from error

    def keep(self) -> None:
        """Wait until every line would outlive a loss of power.

        Raises:
            StorageError: if one could not be written after all.
        """
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError.of(self.path, error) from error

    def _open(self, first: int) -> IO[str]:
        if self.path.is_file():
            write_text(self.path, "".join(_before(first, self.path.read_bytes().decode(errors="replace"))))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.open("a", encoding="utf-8", newline="\n")


def _before(first: int, text: str) -> list[str]:
    """The lines of the steps before one, as far as they are whole and follow each other."""
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n") or _step(line) >= first:
            break
        lines.append(line)
    return lines


def _step(line: str) -> float:
    """The step of a line; that of a damaged one comes after all others, and so does whatever follows it."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
