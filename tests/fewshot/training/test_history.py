import csv
import math
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import UserError
from fewshot.results.history import Tracker, read_history, write_history_csv

LOGGED = [{"loss": 0.1 + 0.2}, {"loss": 2.0, "validation": 1e-17, "dice": 1}, {"dice": 0.5}]


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    with Tracker(path) as tracker:
        for step, values in enumerate(LOGGED, start=1):
            tracker.log(step, values)
    return path


def test_what_was_tracked_is_read_back(logged: Path) -> None:
    history = read_history(logged)
    assert history.steps.tolist() == [1, 2, 3]
    assert list(history.columns) == ["loss", "validation", "dice"]
    np.testing.assert_array_equal(history.columns["loss"], [0.1 + 0.2, 2.0, math.nan])
    np.testing.assert_array_equal(history.columns["validation"], [math.nan, 1e-17, math.nan])
    np.testing.assert_array_equal(history.columns["dice"], [math.nan, 1.0, 0.5])


def test_a_curve_has_the_steps_that_logged_it(logged: Path) -> None:
    history = read_history(logged)
    assert [part.tolist() for part in history.curve("dice")] == [[2, 3], [1.0, 0.5]]
    assert [part.tolist() for part in history.curve("unknown")] == [[], []]


def test_a_half_written_last_line_is_left_out(logged: Path) -> None:
    logged.write_text(logged.read_text() + '{"step": 4, "lo')
    assert read_history(logged).steps.tolist() == [1, 2, 3]
    # Half a number is a whole one of another value.
    logged.write_text(logged.read_text() + 'ss": 0.25}')
    assert read_history(logged).steps.tolist() == [1, 2, 3]
    logged.write_text(logged.read_text() + "\n")
    assert read_history(logged).steps.tolist() == [1, 2, 3, 4]


def test_the_table_holds_every_number_to_its_last_digit(logged: Path, tmp_path: Path) -> None:
    path = write_history_csv(read_history(logged), tmp_path / "new" / "history.csv")
    assert path.read_text() == ("step,loss,validation,dice\n1,0.30000000000000004,,\n2,2.0,1e-17,1.0\n3,,,0.5\n")
    with path.open(newline="") as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    assert rows == [{"step": step, **values} for step, values in enumerate(LOGGED, start=1)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "holds no step"),
        ('{"step": 1, "loss": 0.5', "holds no step"),
        ('{"step": 1}\n{"step"\n{"step": 3}\n', "line 2 is not JSON"),
        ('{"loss": 0.5}\n', "line 1 is not an object with a whole"),
        ('{"step": 1.5}\n', "line 1 is not an object with a whole"),
        ("[1]\n", "line 1 is not an object with a whole"),
        ('{"step": 1, "loss": "low"}\n', "line 1: loss is 'low'; expected a number"),
        ('{"step": 1, "loss": true}\n', "line 1: loss is True; expected a number"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"metrics\.jsonl: {error}"):
        read_history(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: there is no such file"):
        read_history(tmp_path / "metrics.jsonl")
