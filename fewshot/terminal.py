"""Output of the commands: results, messages and progress."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from episodes.names import printable


def output_console() -> Console:
    """Make a console on standard output.

    Piped or logged, it has 140 columns: wrapping a table to 80 would break its rows.
    """
    console = Console()
    return console if console.is_terminal else Console(width=140)


def print_line(console: Console, text: str) -> None:
    """Print lines as they are: a path may hold brackets, and must not be broken; nor may it command a terminal."""
    shown = "\n".join(map(printable, text.split("\n")))
    console.print(shown, highlight=False, markup=False, soft_wrap=True)


T = TypeVar("T")

Update = Callable[..., None]  # (done, total, note="")

PACKAGES = ("episodes", "baselines", "fewshot")


class Reporter:
    """The progress of steps, shown one after the other; each step gets a callback `(done, total, note)`.

    On a terminal a step is a bar with elapsed and remaining time; elsewhere it is one line when it has ended.
    """

    def __init__(self, console: Console | None = None) -> None:
        # Of the processes that torchrun starts, the first speaks for all.
        self.console = console or Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
        self._progress: Progress | None = None
        self._shown = 0

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        """Show one step for as long as the block runs."""
        title = printable(title)
        began = time.perf_counter()
        if not self.console.is_terminal:
            notes = [""]

            def note_only(done: int, total: int, note: str = "") -> None:  # noqa: ARG001 - the callback's form
                notes[0] = note

            yield note_only
            print_line(self.console, f"{title}: {time.perf_counter() - began:.1f} s {notes[0]}".rstrip())
            return
        with self._bars() as progress:
            task = progress.add_task(f"{title:<34}", total=None, note="")

            def update(done: int, total: int, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield update

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        """Share one display among all steps that are shown at a time, since a terminal has room for one."""
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=self.console,
            )
            self._progress.start()
        progress = self._progress
        self._shown += 1
        try:
            yield progress
        finally:
            self._shown -= 1
            if not self._shown:
                progress.stop()
                self._progress = None


def with_progress(items: Iterable[T], total: int, update: Update) -> Iterator[T]:
    """Yield the items, each reported when the next one is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        update(done, total)


def show_messages(console: Console, level: int) -> None:
    """Print the project's own log messages on the console, each once however often it is logged."""
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers = [_ConsoleHandler(console)]
        logger.setLevel(level)
        logger.propagate = False


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.shown: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.shown:
            self.shown.add(message)
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            print_line(self.console, prefix + printable(message))
