"""The command line in processes of their own, which can be killed.

They are forked from one process that has imported everything already, so that each starts within milliseconds, and what
measures time and memory stands still in them (`stopped_clock`).
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.survival.stopped_clock import stop_clock

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_MODULES = [
    "fewshot.benchmark.run",
    "fewshot.report.page",
    "fewshot.report.exports",
    "fewshot.plots.curves",
    "fewshot.cli",
]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_MODULES)


@dataclass(frozen=True)
class Ended:
    """What a command left behind.

    Attributes:
        status: of the process; -9 if it was killed.
        said: on both streams.
        events: how often it changed a file or folder, or opened one to write.
        seconds: that it took.
    """

    status: int
    said: str
    events: int
    seconds: float


def run(folder: Path, *arguments: str, kill_at: int | None = None, kill_after: float | None = None) -> Ended:
    """Run `fewshot ARGUMENTS` in a folder.

    Args:
        folder: to work in.
        arguments: of the command.
        kill_at: kill it just before its n-th change to the file system, counted from 1.
        kill_after: kill it after so many seconds.
    """
    began = time.perf_counter()
    process = start(folder, *arguments, kill_at=kill_at)
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join()
    return ended(folder, process, time.perf_counter() - began)


def start(folder: Path, *arguments: str, kill_at: int | None = None) -> BaseProcess:
    """Start `fewshot ARGUMENTS` in a folder; `ended` says what became of it."""
    return in_child(_fewshot, folder, arguments, kill_at)


def in_child(target: Callable[..., None], folder: Path, *arguments: Any) -> BaseProcess:
    """Call a function of a module in a process of its own; what it prints goes to a file beside the folder."""
    process = _context.Process(target=_called, args=(target, folder, arguments))
    process.start()
    return process


def ended(folder: Path, process: BaseProcess, seconds: float = 0.0) -> Ended:
    """What a process that has ended left behind."""
    process.join()
    assert process.exitcode is not None
    count = _count_file(folder, process.pid)
    output = _output(folder, process.pid)
    said = output.read_text() if output.is_file() else ""  # it may have been killed before it could say anything
    events = int(count.read_text()) if count.is_file() else 0
    return Ended(process.exitcode, said, events, seconds)


def _output(folder: Path, pid: int | None) -> Path:
    return folder.parent / f"{folder.name}-{pid}.out"


def _count_file(folder: Path, pid: int | None) -> Path:
    return folder.parent / f"{folder.name}-{pid}.count"


def _called(target: Callable[..., None], folder: Path, arguments: Sequence[Any]) -> None:
    # A suite that a shell runs in the background ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_clock()
    multiprocessing.set_start_method("fork", force=True)  # of workers, as in a process that was not forked so itself
    os.chdir(folder)
    os.environ |= {"XDG_CACHE_HOME": str(folder.parent / "home"), "COLUMNS": "400"}
    output = os.open(_output(folder, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    target(*arguments)


def _fewshot(arguments: Sequence[str], kill_at: int | None) -> None:
    count, output = _count_changes(kill_at), _count_file(Path.cwd(), os.getpid())
    try:
        call_fewshot(arguments)
    finally:
        output.write_text(str(count()))


def call_fewshot(arguments: Sequence[str]) -> None:
    """Run `fewshot ARGUMENTS` in this process, a child; it ends by `SystemExit`."""
    from fewshot.cli import main

    sys.argv = ["fewshot", *arguments]
    main()


def _count_changes(kill_at: int | None) -> Callable[[], int]:
    """Count this process's changes to its working folder from now on, and kill it before the one asked for."""
    me, folder, seen = os.getpid(), os.getcwd(), 0  # noqa: PTH109 - as text, to compare

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event not in _CHANGES and not (event == "open" and (arguments[2] or 0) & _WRITES):
            return
        path = arguments[0]
        if isinstance(path, int) or os.getpid() != me:
            return
        place = os.fsdecode(path)
        if os.path.isabs(place) and not place.startswith(f"{folder}/"):  # noqa: PTH117 - in a hook, nothing but texts
            return
        seen += 1
        if seen == kill_at:
            os.kill(me, signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen
