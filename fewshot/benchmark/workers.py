"""Executors of tasks that depend on nothing but what they are given: in this process, or in several side by side."""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from logging.handlers import QueueHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console

from episodes.errors import UserError
from episodes.io.files import remove_leftovers
from fewshot.terminal import PACKAGES, Reporter
from fewshot.threads import settle_threads

logger = logging.getLogger(__name__)

State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")

Results = Iterator[tuple[Task, Result]]

Work = Callable[[State, Task, Reporter], Iterable[Result]]
"""What is done for a task: importable by its name, the same whatever was done before, with any number of results."""


class Executor(Generic[State]):
    """Tasks one after the other in this process, with the `state` that `make` makes."""

    processes = 1

    def __init__(self, make: Callable[[], State], reporter: Reporter) -> None:
        self.state, self.reporter = make(), reporter

    def threads(self, n_tasks: int) -> int:
        """Return how many of torch's threads a task has: bytes depend on it, so `n_tasks` counts those done before."""
        return max(1, torch.get_num_threads() // max(1, min(self.processes, n_tasks)))

    def run(self, work: Work[State, Task, Result], tasks: Sequence[Task], threads: int) -> Results[Task, Result]:
        """Begin the tasks in their order, and yield results with their task as they come; the first error ends it."""
        del threads  # this process has all of them
        for task in tasks:
            for result in work(self.state, task, self.reporter):
                yield task, result


class _Pool(Executor[State]):
    """Tasks in processes that start with the first of them, and share the threads that torch has here."""

    def __init__(self, make: Callable[[], State], reporter: Reporter, processes: int) -> None:
        super().__init__(make, reporter)
        self.processes, self.unsent = processes, iter([make] * processes)
        context = get_context("spawn")
        self.makes, self.said = context.Queue(), context.Queue()  # written by threads: what is large keeps nobody
        held, self.lifeline = context.Pipe(duplex=False)
        self.makes.cancel_join_thread()
        self.said.cancel_join_thread()
        levels = {name: logging.getLogger(name).level for name in PACKAGES}
        self.pool = ProcessPoolExecutor(processes, context, _begin, (self.makes, self.said, held, levels))

    def run(self, work: Work[State, Task, Result], tasks: Sequence[Task], threads: int) -> Results[Task, Result]:
        """Do the tasks side by side; the results of one come together. A killed process is a UserError."""
        for _, make in zip(tasks, self.unsent, strict=False):  # as many as processes start
            self.makes.put(make)
        try:
            # The working directory's files must not stand in for libraries.
            with _inherited(PYTHONSAFEPATH="1", OMP_NUM_THREADS=str(threads)):
                futures = {self.pool.submit(_do, work, task, threads): task for task in tasks}
            for future in as_completed(futures):
                for result in future.result():
                    yield futures[future], result
        except BrokenProcessPool as error:
            self.lifeline.close()  # at which the others end; they do not listen to the pool's SIGTERM
            raise UserError(
                f"processes: one of {self.processes} was ended from outside, as the system does where memory runs out;"
                " the same command goes on from here, with processes=1 in less memory"
            ) from error


@contextmanager
def open_executor(
    make: Callable[[], State], processes: int, reporter: Reporter, folder: Path
) -> Iterator[Executor[State]]:
    """Do tasks in so many processes, in this one if it is one alone; `make`, which can be pickled, makes their state.

    The processes end with the block, and with this process however it ends: at once where there is an error, and then
    what they have half-written in the `folder` is removed. Their messages, warnings and finished steps are logged here.
    """
    if processes <= 1:
        yield Executor(make, reporter)
        return
    executor = _Pool(make, reporter, processes)
    listener = threading.Thread(target=_log_here, args=(executor.said,), daemon=True)
    listener.start()
    try:
        yield executor
        executor.pool.shutdown()
    except BaseException:
        executor.lifeline.close()
        executor.pool.shutdown()
        remove_leftovers(folder.resolve())
        raise
    finally:
        executor.said.put(None)
        listener.join(1)  # it never ends if a process was killed while it wrote there


def _log_here(said: "Queue[logging.LogRecord | None]") -> None:
    """Handle what processes log as if it were this one's."""
    for record in iter(said.get, None):
        logging.getLogger(record.name).handle(record)


@contextmanager
def _inherited(**variables: str) -> Iterator[None]:
    """Set variables for processes that start within the block; Ctrl-C and SIGTERM, sent to all, this one answers.

    Nor do they run the caller's main module again, as they would: a script without a guard, or one from a pipe, is none
    of theirs.
    """
    before = {name: os.environ.get(name) for name in variables}
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    os.environ.update(variables)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)


_makes: "list[Queue[Callable[[], Any]]]" = []
"""Where a process that was started for tasks finds what makes its state."""


def _begin(makes: "Queue[Any]", said: "Queue[Any]", held: Connection, levels: Mapping[str, int]) -> None:
    """Prepare a process for its tasks."""
    threading.Thread(target=_end_with, args=(held,), daemon=True).start()
    settle_threads()
    logging.getLogger().addHandler(QueueHandler(said))
    logging.captureWarnings(True)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    _makes.append(makes)


def _end_with(held: Connection) -> None:
    """End this process at once when the other end is closed, as it is when the one that started it is gone."""
    held.poll(None)
    os._exit(1)


@cache
def _state() -> Any:
    return _makes[0].get()()


def _do(work: Work[Any, Task, Result], task: Task, threads: int) -> list[Result]:
    """Do a task; an error that cannot be sent becomes one that can."""
    torch.set_num_threads(threads)
    try:
        return list(work(_state(), task, Reporter(Console(file=_Logged(), force_terminal=False))))
    except Exception as error:
        try:
            deepcopy(error)
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


class _Logged(io.StringIO):
    """Text that becomes log messages, since a terminal belongs to one process."""

    def write(self, text: str) -> int:
        if text.strip():
            logger.info("%s", text.strip())
        return len(text)
