"""Tasks for processes of their own, in a module that is quick to import there."""

import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from rich.console import Console

from fewshot.benchmark.workers import Executor, open_executor
from fewshot.terminal import Reporter


def squares(state: int, task: int, reporter: Reporter) -> Iterator[int]:
    """The square in the state's units, and the process it comes from."""
    with reporter.step(f"squaring {task}") as update:
        update(1, 1, "squared")
    logging.getLogger("fewshot.workers").warning("of all")
    warnings.warn("old", stacklevel=1)
    yield state * task**2
    yield os.getpid()


def failing(state: int, error: Exception, reporter: Reporter) -> list[None]:
    raise error


def sleeping(state: int, folder: Path, reporter: Reporter) -> list[None]:
    """Name the process in the folder, and do nothing for a minute."""
    (folder / str(os.getpid())).touch()
    time.sleep(60)
    return []


def unportable(state: int, task: int, reporter: Reporter) -> list[None]:
    raise UnportableError("this", "that")


class UnportableError(Exception):
    """Of another library, whose argument is not what it is made of."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def workers(folder: Path) -> AbstractContextManager[Executor[int]]:
    return open_executor(partial(int, 10), 2, Reporter(Console(quiet=True)), folder)


def wait() -> None:
    """Start two processes, named in the working directory, which do nothing for a minute."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which what runs in the background ignores
    with workers(Path()) as executor:
        list(executor.run(sleeping, [Path(), Path()], 1))
