"""Executors of tasks that depend on nothing but what they are given: in this process, or in several side by side."""

import logging
import os
import signal
import threading
import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from logging.handlers import QueueHandler
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import torch
from rich.console import Console

from episodes.errors import UserError
from episodes.io.files import remove_leftovers
from fewshot.terminal import PACKAGES, Reporter, Update
from fewshot.threads import settle_threads

State = TypeVar("State")
Task = TypeVar("Task")
Result = TypeVar("Result")

Work = Callable[[State, Task, Reporter], Iterable[Result]]
"""What is done for a task: importable by its name, the same whatever was done before, with any number of results."""


class Executor(ABC, Generic[State]):
    """A place where tasks are done, one after the other or several at once, each on so many `threads` of torch."""

    threads: int

    def expect(self, n_tasks: int) -> None:
        """Share threads among so many tasks, which are all that there are, also where some are done already."""

    @abstractmethod
    def run(self, work: Work[State, Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Begin the tasks in their order, and yield results with their task as they come; the first error ends it."""


class ThisProcess(Executor[State]):
    """Tasks one after the other in this process."""

    def __init__(self, state: State, reporter: Reporter) -> None:
        self.state, self.reporter, self.threads = state, reporter, torch.get_num_threads()

    def run(self, work: Work[State, Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Do the tasks in their order."""
        for task in tasks:
            for result in work(self.state, task, self.reporter):
                yield task, result


@contextmanager
def open_executor(
    make: Callable[[], State], processes: int, reporter: Reporter, folder: Path
) -> Iterator[Executor[State]]:
    """Do tasks in so many processes; in this one if it is one alone."""
    if processes <= 1:
        yield ThisProcess(make(), reporter)
        return
    with WorkerProcesses(make, processes, reporter, folder) as workers:
        yield workers


class WorkerProcesses(Executor[State]):
    """Tasks in processes of this machine, which end with the block, and with this process however it ends.

    They start with the first task. Their steps, log messages and warnings are shown here, as if they were this
    process's own, and so are their errors.

    Args:
        make: makes the state that tasks are given, once in each process; it and all that it holds can be pickled.
        processes: how many there may be; they share the threads that torch has here.
        reporter: shows their steps.
        folder: where they write.
    """

    def __init__(self, make: Callable[[], State], processes: int, reporter: Reporter, folder: Path) -> None:
        self.make, self.processes, self.reporter, self.folder = make, processes, reporter, folder
        self.expect(processes)
        self._workers: dict[Connection, SpawnProcess] = {}
        self._steps: dict[tuple[Connection, int], tuple[ExitStack, Update]] = {}
        self._warned: dict[str | tuple[str, type[Warning], int], int] = {}

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, whatever they are at, and remove what they have half-written."""
        for stack, _ in self._steps.values():
            stack.__exit__(kind, error, trace)
        for process in self._workers.values():
            process.kill()
        for connection, process in self._workers.items():
            process.join()
            connection.close()
        if self._workers and error is not None:
            remove_leftovers(self.folder.resolve())
        self._workers.clear()

    def expect(self, n_tasks: int) -> None:
        """Share this process's threads, which a start after a stop has as well: the bytes depend on their number."""
        self.threads = max(1, torch.get_num_threads() // max(1, min(self.processes, n_tasks)))

    def run(self, work: Work[State, Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Do the tasks side by side.

        Raises:
            UserError: if a process is killed; and whatever a task raises.
        """
        waiting = list(reversed(tasks))
        self._start(min(self.processes, len(tasks)))
        doing = {connection: waiting.pop() for connection in list(self._workers)[: len(tasks)]}
        for connection, task in doing.items():
            self._send(connection, (work, task, self.threads))
        while doing:
            for connection in cast("list[Connection]", wait(list(doing))):
                what, content = self._receive(connection)
                if what == "result":
                    yield doing[connection], content
                elif what == "failed":
                    raise content
                elif what != "done":
                    self._show(connection, what, content)
                elif waiting:
                    doing[connection] = waiting.pop()
                    self._send(connection, (work, doing[connection], self.threads))
                else:
                    del doing[connection]

    def _start(self, number: int) -> None:
        """Start processes until there are so many."""
        context, levels = get_context("spawn"), {name: logging.getLogger(name).level for name in PACKAGES}
        new = []
        with _environment(PYTHONSAFEPATH="1", OMP_NUM_THREADS=str(self.threads)):
            while len(self._workers) < number:
                here, there = context.Pipe()
                process = context.Process(target=_work, args=(there, levels))
                process.start()
                there.close()  # so that its end is seen when it ends
                self._workers[here] = process
                new.append(here)
        for connection in new:  # all are starting by now; what is large waits until it is read
            self._send(connection, self.make)

    def _send(self, connection: Connection, content: object) -> None:
        try:
            connection.send(content)
        except OSError as error:
            raise self._killed(connection) from error

    def _receive(self, connection: Connection) -> tuple[str, Any]:
        try:
            return cast("tuple[str, Any]", connection.recv())
        except (EOFError, OSError) as error:
            raise self._killed(connection) from error

    def _killed(self, connection: Connection) -> UserError:
        process = self._workers[connection]
        process.join(1)
        return UserError(
            f"processes: one of {len(self._workers)} was ended from outside (status {process.exitcode}), as the system"
            " does where memory runs out; the same command goes on from here, with processes=1 in less memory"
        )

    def _show(self, connection: Connection, what: str, content: Any) -> None:
        """Show what a process says."""
        if what == "step":
            key, title = content
            stack = ExitStack()
            self._steps[connection, key] = stack, stack.enter_context(self.reporter.step(title))
        elif what == "update":
            key, now = content
            self._steps[connection, key][1](*now)
        elif what == "end":
            self._steps.pop((connection, content))[0].close()
        elif what == "log":
            logging.getLogger(content.name).handle(content)
        else:
            message, category, filename, line = content
            warnings.warn_explicit(message, category, filename, line, registry=self._warned)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set variables that processes inherit; the working directory's files must not stand in for their libraries."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, levels: Mapping[str, int]) -> None:
    """Do tasks until there are no more; the main function of a process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or scheduler tells all: the one that started this acts
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    settle_threads()
    said = _Said(connection)
    logging.getLogger().addHandler(QueueHandler(cast(Any, said)))
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    warnings.showwarning = lambda message, category, filename, lineno, *_: said.put(
        "warning", (message, category, filename, lineno)
    )
    state, reporter = connection.recv()(), _SentSteps(said)
    while True:
        work, task, threads = connection.recv()
        torch.set_num_threads(threads)
        try:
            for result in work(state, task, reporter):
                said.put("result", result)
        except Exception as error:
            said.put("failed", _portable(error))
        else:
            said.put("done", None)


def _portable(error: Exception) -> Exception:
    """Note where an error came from, which is lost on the way; one that cannot be pickled becomes a RuntimeError."""
    where = traceback.format_exc()
    try:
        portable: Exception = ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note(where)
    return portable


def _end_with_parent() -> None:
    """End this process once the one that started it is gone, even if killed: another may be at work there by then."""
    parent = parent_process()
    assert parent is not None  # noqa: S101 - a worker has been started by one
    parent.join()
    os._exit(1)


class _Said:
    """What a process says to the one that started it, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.lock = connection, threading.Lock()

    def put(self, what: str, content: object) -> None:
        with self.lock:
            self.connection.send((what, content))

    def put_nowait(self, record: logging.LogRecord) -> None:
        self.put("log", record)


class _SentSteps(Reporter):
    """Steps that are shown by the process that started this one, as they were up to ten times a second."""

    def __init__(self, said: _Said) -> None:
        super().__init__(Console(quiet=True))
        self.said, self.keys = said, count()

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        """Show one step; of one that fails the end is not told."""
        key, sent, last = next(self.keys), 0.0, tuple[Any, ...]()
        self.said.put("step", (key, title))

        def update(*now: Any) -> None:
            nonlocal sent, last
            last = now
            if monotonic() - sent > 0.1:
                sent, last = monotonic(), ()
                self.said.put("update", (key, now))

        yield update
        if last:
            self.said.put("update", (key, last))
        self.said.put("end", key)
