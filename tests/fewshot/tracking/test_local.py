"""The local log of a training's losses, across interruptions."""

import json
import os
from pathlib import Path

import pytest

from episodes.errors import StorageError
from fewshot.results.history import Tracker


def logged(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def log_steps(path: Path, first: int, last: int, loss: float) -> None:
    with Tracker(path) as tracker:
        for step in range(first, last + 1):
            tracker.log(step, {"loss": loss + step})


def test_every_step_is_a_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with Tracker(path) as tracker:
        tracker.log(1, {"loss": 0.5, "alignment": 0.25})
        assert logged(path) == [{"step": 1, "loss": 0.5, "alignment": 0.25}]  # at once, not at the end
        tracker.log(2, {"loss": 0.125, "alignment": 0.0})
    assert logged(path)[1] == {"step": 2, "loss": 0.125, "alignment": 0.0}


def test_steps_that_come_again_after_an_interruption_replace_the_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 1, 7, loss=0.0)
    log_steps(path, 6, 9, loss=100.0)  # the saved state was that after step 5
    assert [(line["step"], line["loss"]) for line in logged(path)] == [
        *((step, float(step)) for step in range(1, 6)),
        *((step, 100.0 + step) for step in range(6, 10)),
    ]


def test_a_training_that_starts_over_starts_its_log_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 1, 5, loss=0.0)
    log_steps(path, 1, 2, loss=10.0)
    assert [line["loss"] for line in logged(path)] == [11.0, 12.0]


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 1, 4, loss=0.0)
    path.write_text(path.read_text()[:-6])
    log_steps(path, 3, 4, loss=10.0)
    assert [line["loss"] for line in logged(path)] == [1.0, 2.0, 13.0, 14.0]


def test_a_tracker_that_logs_nothing_writes_nothing(tmp_path: Path) -> None:
    with Tracker(tmp_path / "metrics.jsonl"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_follows_a_damaged_line_is_logged_again(tmp_path: Path) -> None:
    """A machine that lost power may have lost a piece in the middle."""
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 1, 4, loss=0.0)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "\0" * 20 + "\n", *lines[2:]]))
    log_steps(path, 4, 5, loss=10.0)
    assert [(line["step"], line["loss"]) for line in logged(path)] == [(1, 1.0), (4, 14.0), (5, 15.0)]


def test_a_log_that_begins_later_keeps_its_steps(tmp_path: Path) -> None:
    """As where somebody removed the file between two calls."""
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 3, 5, loss=0.0)
    log_steps(path, 5, 6, loss=10.0)
    assert [(line["step"], line["loss"]) for line in logged(path)] == [(3, 3.0), (4, 4.0), (5, 15.0), (6, 16.0)]


def test_earlier_steps_are_never_off_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a process is killed while it takes an earlier one's log up."""
    path = tmp_path / "metrics.jsonl"
    log_steps(path, 1, 5, loss=0.0)
    before = path.read_bytes()

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        log_steps(path, 5, 6, loss=10.0)
    assert path.read_bytes() == before


def test_lines_are_on_the_disk_when_they_are_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
    with Tracker(path) as tracker:
        tracker.keep()  # nothing yet
        tracker.log(1, {"loss": 0.5})
        assert not synced
        tracker.keep()
    assert synced == [b'{"step": 1, "loss": 0.5}\n']


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        Tracker(tmp_path / "file" / "metrics.jsonl") as tracker,
        pytest.raises(StorageError, match="cannot be written"),
    ):
        tracker.log(1, {"loss": 0.5})
