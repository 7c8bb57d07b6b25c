"""What the user sees while something runs: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Update = Callable[..., None]  # (done, total, note="")


class Reporter:
    """Shows steps one after the other; each step gets a callback `(done, total, note)`.

    On a terminal a step is a bar with elapsed and remaining time; elsewhere it is one line when it has ended.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        """Show one step for as long as the block runs."""
        began = time.perf_counter()
        if not self.console.is_terminal:
            notes = [""]

            def note_only(done: int, total: int, note: str = "") -> None:  # noqa: ARG001 - the callback's form
                notes[0] = note

            yield note_only
            self.console.print(f"{title}: {time.perf_counter() - began:.1f} s {notes[0]}".rstrip(), highlight=False)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(f"{title:<34}", total=None, note="")

            def update(done: int, total: int, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=note)

            yield update
