"""How many threads compute, and that they spin only while no other process wants their processors."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from episodes.parallel import allowed_processors, n_processors
from fewshot import threads
from fewshot.threads import CONTENDED, LOOK, PATIENCE, WATCHING, hold_team, settle_threads, waited, watch


def output(script: str) -> str:
    """What a process of its own prints, whose environment says nothing of threads."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "KMP", "GOMP"))}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout  # noqa: S603


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that were started to watch, which do nothing."""
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self.name))
    return started


def limited(monkeypatch: pytest.MonkeyPatch, limit: int, allowed: int = 8) -> None:
    monkeypatch.setattr(threads, "n_processors", lambda: limit)
    monkeypatch.setattr(threads, "allowed_processors", lambda: allowed)


def test_a_container_gets_as_many_threads_as_it_may_run(watching: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 3)
    environment: dict[str, str] = {}
    settle_threads(environment)
    assert environment == {"OMP_NUM_THREADS": "3", "KMP_BLOCKTIME": "1"}
    assert watching == [WATCHING]


def test_without_a_limit_the_number_is_left_to_torch(watching: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 8)
    environment: dict[str, str] = {}
    settle_threads(environment)
    assert environment == {"KMP_BLOCKTIME": "1"}


@pytest.mark.parametrize(
    ("given", "blocktime", "watched"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None, False),
        ({"GOMP_SPINCOUNT": "7"}, "1", False),
        ({"KMP_BLOCKTIME": "7"}, "7", True),
    ],
)
def test_who_sets_how_threads_wait_is_left_alone(
    given: dict[str, str], blocktime: str | None, watched: bool, watching: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 8)
    environment = dict(given)
    settle_threads(environment)
    assert environment == given | ({"KMP_BLOCKTIME": blocktime} if blocktime else {})
    assert watching == [WATCHING] * watched


def test_who_sets_the_number_keeps_it(watching: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 2)
    environment = {"OMP_NUM_THREADS": "5"}
    settle_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "5"
    assert watching == [WATCHING]


def test_one_thread_waits_for_none(watching: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 8)
    settle_threads({"OMP_NUM_THREADS": "1"})
    assert watching == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "400000 100000\n", "pod/cpu.max": "max 100000\n", "pod/box/cpu.max": "300000 100000\n"}, 3),
        ({"pod/cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "damaged\n"}, 8),
    ],
)
def test_the_narrowest_limit_counts(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("episodes.parallel.allowed_processors", lambda: 8)
    groups, membership = tmp_path / "groups", tmp_path / "membership"
    membership.write_text("1:cpu:/\n0::/pod/box\n")
    (groups / "pod/box").mkdir(parents=True)
    for name, text in files.items():
        (groups / name).write_text(text)
    assert n_processors(groups, membership) == expected
    assert n_processors(tmp_path / "nowhere", tmp_path / "nothing") == 8


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no processor affinity")
def test_affinity_counts() -> None:
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from episodes.parallel import n_processors
print(n_processors())
"""
    assert output(script) == "1\n"


class EndError(Exception):
    """The end of a watch that has none."""


def test_a_team_is_held_while_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [0.0, 0.1, 0.9, 0.6, *[0.05] * (PATIENCE + 3), 0.5]
    looks = iter([{"1": 0.0, "2": LOOK * sum(shares[:n])} for n in range(len(shares) + 1)])
    monkeypatch.setattr(threads, "waited", lambda: next(looks))
    held: list[threading.Event] = []

    def hold() -> threading.Event:
        held.append(threading.Event())
        return held[-1]

    monkeypatch.setattr(threads, "hold_team", hold)
    holding, pauses = list[list[bool]](), iter(shares)

    def pause(seconds: float) -> None:
        assert seconds == LOOK
        holding.append([not release.is_set() for release in held])
        if next(pauses, None) is None:
            raise EndError

    with pytest.raises(EndError):
        watch(pause)
    assert [share for share in shares if share > CONTENDED] == [0.9, 0.6, 0.5]
    assert holding == [[]] * 3 + [[True]] * (PATIENCE + 1) + [[False]] * 4 + [[False, True]]


def test_where_nothing_tells_of_waiting_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "waited", dict)
    watch()  # it returns


def test_without_gnu_s_openmp_there_is_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert hold_team() is None


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not count waiting")
def test_a_thread_on_a_taken_processor_waits() -> None:
    """Two threads of which each would use the whole of one processor."""
    script = """
import os, subprocess, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from fewshot.threads import longest_wait, waited
other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
before, end = waited(), time.monotonic() + 0.5
while time.monotonic() < end:
    pass
print(longest_wait(before, waited()) > 0.1)
other.kill()
other.wait()
"""
    assert output(script) == "True\n"


def await_threads(count: int) -> None:
    end = time.monotonic() + 20
    while len(waited()) != count:
        assert time.monotonic() < end, f"{len(waited())} threads, not {count}"
        time.sleep(0.001)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
def test_a_team_comes_and_goes() -> None:
    import torch  # it loads OpenMP

    if "libgomp" not in Path("/proc/self/maps").read_text() or not hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        pytest.skip("torch is built with another OpenMP than GNU's")
    product = torch.ones(300, 300) @ torch.ones(300, 300)
    before = len(waited())
    release = hold_team()
    assert release is not None
    await_threads(before + 1 + allowed_processors())  # the holder, and its team beside it
    assert torch.equal(torch.ones(300, 300) @ torch.ones(300, 300), product)
    release.set()
    await_threads(before)


def test_nothing_heavy_is_imported_and_a_library_changes_nothing() -> None:
    script = """
import os, sys, threading
before = dict(os.environ)
import fewshot.threads, fewshot.cli
assert not {"torch", "numpy", "scipy"} & set(sys.modules)
assert dict(os.environ) == before and threading.active_count() == 1
"""
    output(script)
