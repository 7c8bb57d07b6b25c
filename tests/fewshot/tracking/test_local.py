"""The local log of a training's losses, across interruptions."""

import json
from pathlib import Path

from fewshot.tracking import Tracker


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
