"""A second process on the same run, training or output says who is at work there, and touches nothing."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from episodes.io.locks import exclusive_lock
from tests.survival.children import ended, run, start
from tests.survival.pipeline import COMMANDS, Stage, contents

SECONDS = 60  # to wait for what takes well below one


@pytest.mark.parametrize(("command", "place"), [("train", "runs/own"), ("benchmark", "runs/tiny")])
def test_the_second_one_stops_and_the_first_goes_on(
    command: str, place: str, undisturbed: dict[str, Stage], tmp_path: Path
) -> None:
    stage = undisturbed[command]
    folder = stage.begin(tmp_path / "shared")
    first = start(folder, *COMMANDS[command])
    with _stopped(first, folder / Path(place).parent / f".{Path(place).name}.lock"):
        before = contents(folder)
        second = stage.run(folder)
        assert second.status == 1
        assert f"fewshot: {place}: process {first.pid} on " in second.said
        assert second.said.endswith("is at work there; wait until it has ended, or stop it\n")
        assert contents(folder) == before
    assert ended(folder, first).status == 0
    stage.assert_complete(folder)


@contextmanager
def _stopped(process: BaseProcess, lock: Path) -> Iterator[None]:
    """Halt a process when it has taken a lock, for as long as the block runs."""
    assert process.pid is not None
    end = time.monotonic() + SECONDS
    while not (lock.is_file() and lock.read_text()):
        assert process.is_alive()
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_run_at_work_is_not_replaced_either(
    overwrite: tuple[str, ...], undisturbed: dict[str, Stage], tmp_path: Path
) -> None:
    folder = undisturbed["report"].begin(tmp_path / "shared")
    before = contents(folder)
    with exclusive_lock(folder / "runs" / "tiny"):
        second = run(folder, *COMMANDS["benchmark"], "draws=1", *overwrite)
    assert second.status == 1
    assert f"process {os.getpid()} on" in second.said
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        ("report runs/tiny", "runs/tiny"),
        ("report runs/tiny --out page", "page"),
        ("finetune runs/own/checkpoint.safetensors --support mine --shots 1 --out tuned", "tuned"),
        ("evaluate runs/own/checkpoint.safetensors --data mine -d folder --part all --out judged", "judged"),
    ],
)
def test_what_another_process_writes_is_not_written(
    arguments: str, out: str, undisturbed: dict[str, Stage], tmp_path: Path
) -> None:
    folder = undisturbed["report"].begin(tmp_path / "shared")
    before = contents(folder)
    with exclusive_lock(folder / out):
        second = run(folder, *arguments.split())
    assert second.status == 1, second.said
    assert f"fewshot: {out}: process {os.getpid()} on" in second.said
    assert contents(folder) == before


def test_a_killed_process_holds_nothing(undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    """Nor do the workers that outlive it for a while."""
    stage = undisturbed["train"]
    folder = stage.begin(tmp_path / "killed")
    process = start(folder, *COMMANDS["train"], "train.workers=2", "train.steps=1000")
    end = time.monotonic() + SECONDS
    while not (folder / "runs" / "own" / "metrics.jsonl").is_file():
        assert process.is_alive(), ended(folder, process).said
        assert time.monotonic() < end
        time.sleep(0.001)
    process.kill()
    process.join()
    with exclusive_lock(folder / "runs" / "own"):
        pass
