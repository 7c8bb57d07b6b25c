"""Tasks in processes of their own: results, errors and what they say are those of one process, and they end with it."""

import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.errors import DatasetError, StorageError, UserError
from fewshot.benchmark import workers as module
from fewshot.benchmark.run import count_processes, run_benchmark
from fewshot.benchmark.workers import _do
from fewshot.config.parsing import ConfigError
from fewshot.devices import NotEnoughMemoryError, machine_memory
from tests.fewshot.benchmark.worker_tasks import failing, sleeping, squares, unportable, workers
from tests.fewshot.tiny_runs import silent, tiny_benchmark

CPU = torch.device("cpu")


def test_tasks_are_done_side_by_side_and_heard_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fewshot")
    with workers(tmp_path) as executor, pytest.raises(ConfigError) as raised:  # noqa: PT012 - what comes before counts
        found = list(executor.run(squares, [1, 2, 3, 4], 1))
        assert list(executor.run(squares, [], 1)) == []
        list(executor.run(failing, [ConfigError("first", "second")], 1))
    assert raised.value.args == ("first", "second")
    assert "in failing" in str(raised.value.__cause__)  # which --debug shows
    assert {(task, 10 * task**2) for task in (1, 2, 3, 4)} <= set(found)
    processes = {result for _, result in found} - {10, 40, 90, 160}
    assert 1 <= len(processes) <= 2
    assert os.getpid() not in processes
    assert not any(map(alive, processes))
    said = [record for record in caplog.records if record.name == "fewshot.workers"]
    assert [record.getMessage() for record in said] == ["of all"] * 4
    warned = [record.getMessage() for record in caplog.records if record.name == "py.warnings"]
    assert len(warned) == len(processes)
    assert "UserWarning: old" in warned[0]
    steps = sorted(record.getMessage() for record in caplog.records if record.name == "fewshot.benchmark.workers")
    assert [line.split(":")[0] for line in steps] == [f"squaring {task}" for task in (1, 2, 3, 4)]
    assert all(line.endswith("s squared") for line in steps)


ERRORS = [
    NotEnoughMemoryError("out of memory: cpu"),
    StorageError.of(Path("a"), OSError(28, "No space left on device")),
    DatasetError("a.png: is empty"),
    OSError(28, "No space left on device", "a"),
    FloatingPointError("lost"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_arrive_as_they_were_raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_state", lambda: 1)
    with pytest.raises(type(error)) as raised:
        _do(failing, error, 1)
    arrived = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - as processes send it
    assert (type(arrived), arrived.args, str(arrived)) == (type(error), error.args, str(error))
    assert getattr(arrived, "filename", None) == getattr(error, "filename", None)
    assert getattr(arrived, "status", None) == getattr(error, "status", None)


def test_an_error_that_cannot_be_made_again_says_what_it_was(tmp_path: Path) -> None:
    with (
        workers(tmp_path) as executor,
        pytest.raises(RuntimeError, match=r"^UnportableError: this and that$") as raised,
    ):
        list(executor.run(unportable, [1], 1))
    assert "in unportable" in str(raised.value.__cause__)


def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "at work").mkdir()

    def kill_one() -> None:
        os.kill(awaited(tmp_path / "at work")[0], signal.SIGKILL)

    killing = threading.Thread(target=kill_one)
    killing.start()
    with workers(tmp_path / "run") as executor, pytest.raises(UserError) as raised:
        list(executor.run(sleeping, [tmp_path / "at work"] * 3, 1))
    killing.join()
    assert re.match(r"processes: one of 2 was ended from outside.* processes=1 ", str(raised.value))
    assert "\n" not in str(raised.value)
    assert not any(map(alive, awaited(tmp_path / "at work")))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """At once, and those that the terminal tells as well do not act by themselves."""
    command = [sys.executable, "-c", "from tests.fewshot.benchmark.worker_tasks import wait; wait()"]
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    settings: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **settings) as parent:  # noqa: S603
        processes = awaited(tmp_path)
        if number == signal.SIGINT:
            for process in processes:
                os.kill(process, number)
            time.sleep(0.05)
            assert all(map(alive, processes))
        parent.send_signal(number)
        end = time.monotonic() + 10
        while any(map(alive, processes)):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert parent.stderr is not None
        assert ("KeyboardInterrupt" in parent.stderr.read()) == (number == signal.SIGINT)


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    """As a notebook or `python < script` has none either: each process would start the whole once more."""
    script = (
        "from pathlib import Path\n"
        "from tests.fewshot.benchmark.worker_tasks import squares, workers\n"
        "print('begun', flush=True)\n"
        "with workers(Path('run')) as executor:\n"
        "    print(sorted(result for _, result in executor.run(squares, [1, 2], 1) if result in (10, 40)))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    settings: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}}
    told = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, **settings)
    assert (told.returncode, told.stdout) == (0, "begun\n[10, 40]\n"), told.stderr


def awaited(folder: Path) -> list[int]:
    """Two processes at work that name themselves in a folder."""
    end = time.monotonic() + 60
    while len(found := [int(path.name) for path in folder.glob("[0-9]*")]) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended may not have been waited for by whom it was left to."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_auto_takes_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr("fewshot.benchmark.run.n_processors", lambda: 8)
    monkeypatch.setattr("fewshot.benchmark.run.machine_memory", lambda: 8 * 2**30)
    auto = tiny_benchmark(tmp_path, processes="auto")
    assert count_processes(auto, CPU) == 3  # each 1.5 GiB and its features
    assert count_processes(auto, torch.device("cuda")) == 1
    assert count_processes(tiny_benchmark(tmp_path, processes=5), CPU) == 5
    monkeypatch.setattr("fewshot.benchmark.run.machine_memory", lambda: 2**30)
    assert count_processes(auto, CPU) == 1
    assert caplog.messages == []
    assert count_processes(tiny_benchmark(tmp_path, processes=5), torch.device("cuda")) == 1
    assert caplog.messages == ["processes: on cuda and under torchrun there is one, not 5"]
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
