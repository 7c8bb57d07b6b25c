"""Tasks for processes of their own, in a module that is quick to import there."""

import logging
import os
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from fewshot.benchmark.workers import WorkerProcesses
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


def sleeping(state: int, seconds: float, reporter: Reporter) -> Iterator[int]:
    yield os.getpid()
    time.sleep(seconds)


def workers(folder: Path, reporter: Reporter | None = None) -> WorkerProcesses[int]:
    return WorkerProcesses(partial(int, 10), 2, reporter or Reporter(Console(quiet=True)), folder)


def say_and_wait() -> None:
    """Print the processes, which do nothing for a minute."""
    with workers(Path()) as executor:
        for _, process in executor.run(sleeping, [60.0, 60.0]):
            print(process, flush=True)
