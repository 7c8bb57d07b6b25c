"""Tasks in processes of their own: results, errors and what they say are those of one process, and they end with it."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from episodes.errors import DatasetError, StorageError, UserError
from fewshot.benchmark.run import count_processes, run_benchmark
from fewshot.benchmark.workers import _portable
from fewshot.config.parsing import ConfigError
from fewshot.devices import NotEnoughMemoryError, machine_memory
from fewshot.terminal import Reporter
from tests.fewshot.benchmark.worker_tasks import failing, sleeping, squares, workers
from tests.fewshot.tiny_runs import silent, tiny_benchmark

CPU = torch.device("cpu")


def test_tasks_are_done_side_by_side_and_heard_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with workers(tmp_path, Reporter(Console(stderr=True))) as executor, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        found = list(executor.run(squares, [1, 2, 3, 4]))
        assert sorted(executor.run(squares, [])) == []
        with pytest.raises(ConfigError) as raised:
            list(executor.run(failing, [ConfigError("first", "second")]))
    assert raised.value.args == ("first", "second")
    assert "in failing" in raised.value.__notes__[0]  # which --debug shows
    assert {(task, 10 * task**2) for task in (1, 2, 3, 4)} <= set(found)
    processes = {result for _, result in found} - {10, 40, 90, 160}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert [str(warning.message) for warning in warned] == ["old"]
    assert [record.name for record in caplog.records] == ["fewshot.workers"] * 4  # the console shows a message once
    lines = sorted(capsys.readouterr().err.splitlines())
    assert [line.split(":")[0] for line in lines] == [f"squaring {task}" for task in (1, 2, 3, 4)]
    assert all(line.endswith("s squared") for line in lines)
    assert not any(map(alive, processes))


@pytest.mark.parametrize(
    "error",
    [
        NotEnoughMemoryError("out of memory: cpu"),
        StorageError.of(Path("a"), OSError(28, "No space left on device")),
        DatasetError("a.png: is empty"),
        OSError(28, "No space left on device", "a"),
        FloatingPointError("lost"),
    ],
)
def test_errors_arrive_as_they_were_raised(error: Exception, tmp_path: Path) -> None:
    arrived = _portable(error)
    assert (type(arrived), arrived.args, str(arrived)) == (type(error), error.args, str(error))
    assert getattr(arrived, "filename", None) == getattr(error, "filename", None)
    assert getattr(arrived, "status", None) == getattr(error, "status", None)


class UnportableError(Exception):
    """Of another library, whose argument is not what it is made of."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def test_an_error_that_cannot_be_made_again_says_what_it_was() -> None:
    assert str(_portable(UnportableError("this", "that"))) == "UnportableError: this and that"


def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    processes: list[int] = []
    with workers(tmp_path) as executor, pytest.raises(UserError) as raised:  # noqa: PT012 - killed in between
        for _, process in executor.run(sleeping, [60.0, 60.0]):
            processes.append(process)
            if len(processes) == 2:
                os.kill(processes[0], signal.SIGKILL)
    assert re.match(r"processes: one of 2 was ended .*status -9.* processes=1 ", str(raised.value))
    assert "\n" not in str(raised.value)
    assert not any(map(alive, processes))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from tests.fewshot.benchmark.worker_tasks import say_and_wait; say_and_wait()"]
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    settings: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **settings) as parent:  # noqa: S603
        assert parent.stdout is not None
        processes = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(number)
    end = time.monotonic() + 10
    while any(map(alive, processes)):
        assert time.monotonic() < end
        time.sleep(0.01)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended may not have been waited for by whom it was left to."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_auto_takes_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("fewshot.benchmark.run.n_processors", lambda: 8)
    monkeypatch.setattr("fewshot.benchmark.run.machine_memory", lambda: 8 * 2**30)
    auto = tiny_benchmark(tmp_path, processes="auto")
    assert count_processes(auto, CPU) == 3  # each 1.5 GiB and its features
    assert count_processes(auto, torch.device("cuda")) == 1
    assert count_processes(tiny_benchmark(tmp_path, processes=5), CPU) == 5
    monkeypatch.setattr("fewshot.benchmark.run.machine_memory", lambda: 2**30)
    assert count_processes(auto, CPU) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert count_processes(tiny_benchmark(tmp_path, processes=5), CPU) == 1
    assert 2**28 < machine_memory() < 2**50


@pytest.mark.parametrize("wrong", [0, -1, "many", 1.5])
def test_no_processes_are_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^tiny: processes"):
        tiny_benchmark(tmp_path, processes=wrong)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same_bytes(processes: int, tmp_path: Path) -> None:
    """Of all that a run writes, but for times and memory, and the number itself."""
    found = []
    for number in (1, processes):
        folder = run_benchmark(tiny_benchmark(tmp_path / str(number), cache=tmp_path, processes=number), silent())
        names = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
        measured = {name for name in names if name.name in {"costs.json", "seconds.json", "config.yaml"}}
        measured |= {name for name in names if name.parts[0] == "cells" and name.suffix == ".json"}
        found.append((names.keys(), {name: names[name].read_bytes() for name in names.keys() - measured}))
    assert found[0] == found[1]
    assert len(found[0][1]) > 40
