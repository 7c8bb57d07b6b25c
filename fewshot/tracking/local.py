"""Metrics of a training, always in a local file."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO


class Tracker:
    """Writes one JSON line per step.

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
            self._file.close()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        if self._file is None:
            self._file = self._open(step)
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def _open(self, first: int) -> IO[str]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        earlier = self.path.read_text().splitlines() if self.path.is_file() else []
        file = self.path.open("w")
        # A line that a killed process left half-written is the last one, and belongs to a step that comes again.
        file.writelines(f"{line}\n" for line in earlier[: first - 1])
        return file
