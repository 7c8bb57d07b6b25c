"""Metrics over training steps: the log that a run writes, and its reader."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import StorageError, UserError, in_short
from episodes.io.files import csv_text, write_text
from episodes.io.yaml_json import JSONTextError, parse_json

METRICS = "metrics.jsonl"
"""In a training's folder: the losses of every step."""


class Tracker:
    """The log of a training, one JSON line per step; the file's folder is made where it is missing.

    The file is the only one that grows in place. That is safe: each line is given to the system as soon as it is
    complete, `keep` waits until the lines are on the disk before a state is saved that says they are there, and what a
    killed process wrote after its last saved state, perhaps half a line, belongs to steps that come again.

    Training that goes on from a saved state logs some steps again: the first one logged replaces what an earlier
    process wrote of it and after it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
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
    """Return the lines of the steps before one, as far as they are whole and follow each other."""
    lines = []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n") or _step(line) >= first:
            break
        lines.append(line)
    return lines


def _step(line: str) -> float:
    """Return the step of a line; that of a damaged one comes after all others, and so does whatever follows it."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")


@dataclass(frozen=True, slots=True)
class History:
    """The metrics of a training."""

    steps: NDArray[np.int64]  # number of steps done, in the order of logging, (n,)
    columns: Mapping[str, NDArray[np.float64]]  # by name, as first mentioned, (n,); NaN at steps without

    def curve(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps at which a metric was logged as a number, and its values; both empty for an unknown name."""
        values = self.columns.get(name, np.full(len(self.steps), np.nan))
        known = ~np.isnan(values)
        return self.steps[known], values[known]


def read_history(path: Path) -> History:
    """Read a training's `metrics.jsonl`, written by `fewshot.results.history.Tracker`.

    A last line without its end is left out: a training that was killed, or still runs, may leave half a line.

    Raises:
        UserError: if there is no such file, it holds no step, or a line is not an object of numbers with a `step`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; name the metrics.jsonl of a training's folder") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({in_short(error)}); the file is damaged, train again") from error
    whole = text[: text.rfind("\n") + 1].splitlines()
    lines = [_parsed(path, number, line) for number, line in enumerate(whole, start=1)]
    if not lines:
        raise UserError(f"{path}: holds no step; train at least one step first")
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    columns = {name: np.array([line.get(name, np.nan) for line in lines], dtype=np.float64) for name in names}
    return History(np.array([line["step"] for line in lines], dtype=np.int64), columns)


def write_history_csv(history: History, path: Path) -> Path:
    """Write a history as a table: one row per step, empty where nothing was logged, numbers to their last digit."""
    columns = (column.tolist() for column in history.columns.values())
    write_text(path, csv_text([["step", *history.columns], *zip(history.steps.tolist(), *columns, strict=True)]))
    return path


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        values = parse_json(line, nan=True)
    except JSONTextError as error:
        raise UserError(f"{path}: line {number} is not JSON ({error}); the file is damaged, train again") from error
    if not isinstance(values, dict) or type(values.get("step")) is not int or not 0 <= values["step"] < 2**63:
        raise UserError(
            f'{path}: line {number} is not an object with a whole "step", such as {{"step": 1, "loss": 0.5}}'
        )
    wrong = [name for name, value in values.items() if type(value) not in (int, float)]
    if wrong:
        raise UserError(f"{path}: line {number}: {wrong[0]} is {values[wrong[0]]!r}; expected a number")
    return values
