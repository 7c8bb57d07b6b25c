"""Ctrl-C, and a scheduler's request to end: one line, and nothing is lost."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.survival.children import ended, start
from tests.survival.pipeline import COMMANDS, Stage

LINE = "fewshot: interrupted; the same command goes on from here"


CTRL_C, REQUEST = signal.SIGINT, signal.SIGTERM
BEGUN = {"train": "runs/own/metrics.jsonl", "benchmark": "runs/tiny/models/unet-seed0/metrics.jsonl"}


@pytest.mark.parametrize(
    ("number", "command", "more"),
    [
        (CTRL_C, "train", ()),
        (REQUEST, "train", ()),
        (REQUEST, "train", ("train.workers=2",)),
        (REQUEST, "benchmark", ()),
        pytest.param(CTRL_C, "train", ("train.workers=2",), marks=pytest.mark.slow),
        pytest.param(CTRL_C, "benchmark", (), marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_command_says_so_and_goes_on(
    number: signal.Signals,
    command: str,
    more: tuple[str, ...],
    undisturbed: dict[str, Stage],
    tmp_path: Path,
) -> None:
    stage = undisturbed[command]
    folder = stage.begin(tmp_path / "interrupted")
    process = start(folder, *COMMANDS[command], *more)
    assert process.pid is not None
    while process.is_alive() and not (folder / BEGUN[command]).is_file():
        time.sleep(0.001)
    os.kill(process.pid, number)
    found = ended(folder, process)
    assert found.status == 130, found.said
    assert found.said.splitlines()[-1] == LINE
    assert found.said.count("interrupted") == 1
    assert "Traceback" not in found.said
    assert "Abort" not in found.said
    again = stage.run(folder)
    assert again.status == 0, again.said
    stage.assert_complete(folder)
