"""What a training logged: read back step by step, and as a table for other programs."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.errors import UserError, in_short
from episodes.files import write_text
from episodes.json_text import JSONTextError, parse_json


@dataclass(frozen=True, slots=True)
class History:
    """The metrics of a training.

    Attributes:
        steps: number of steps done, in the order of logging, (n,).
        columns: by name, in the order of their first mention, (n,); NaN at steps that did not log them.
    """

    steps: NDArray[np.int64]
    columns: Mapping[str, NDArray[np.float64]]

    def curve(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The steps at which a metric was logged as a number, and its values; both empty for an unknown name."""
        values = self.columns.get(name, np.full(len(self.steps), np.nan))
        known = ~np.isnan(values)
        return self.steps[known], values[known]


def read_history(path: Path) -> History:
    """Read a training's `metrics.jsonl`, written by `fewshot.tracking.Tracker`.

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
    """Write a history as a table: one row per step, empty where nothing was logged, numbers to their last digit.

    Returns:
        The file written.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["step", *history.columns])
    for index, step in enumerate(history.steps.tolist()):
        values = (float(column[index]) for column in history.columns.values())
        writer.writerow([step, *("" if np.isnan(value) else repr(value) for value in values)])
    write_text(path, file.getvalue())
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
