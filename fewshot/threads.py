"""Threads of the command line: how many of them compute, and when they may spin while they wait.

An OpenMP thread that has done its piece spins until there is another: to wake a sleeping one costs up to twice a small
training step. On a processor that something else uses as well, spinning takes the time that the other threads' pieces
need, and a step takes four times as long. No length of spinning is good for both (docs/speed.md), so it is changed
while the command runs, which changes no result.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from episodes.parallel import allowed_processors, n_processors

WATCHING = "spinning"
"""The name of the thread that watches."""

LOOK = 0.25
"""Seconds between two looks at how long threads had to wait for a processor."""

CONTENDED = 0.3
"""The share of a look that a thread waits on a busy machine at least: idle it was up to 0.16, else 0.49 or more."""

PATIENCE = 8
"""Looks without such waiting after which threads spin again."""


def settle_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose threads and how they wait, before torch is imported; what the user has set in the environment stays.

    There are as many threads as torch takes by itself, one for each physical processor that this process may use, but
    no more than a container's limit lets run at once.
    """
    processors = n_processors()
    if processors < allowed_processors():
        environment.setdefault("OMP_NUM_THREADS", str(processors))
    if "OMP_WAIT_POLICY" in environment:
        return
    environment.setdefault("KMP_BLOCKTIME", "1")  # of Intel's and LLVM's OpenMP, in ms, in place of 200
    alone = processors == 1 or environment.get("OMP_NUM_THREADS") == "1"
    if sys.platform == "linux" and not alone and "GOMP_SPINCOUNT" not in environment and not _watched():
        threading.Thread(target=watch, args=(Brake(),), name=WATCHING, daemon=True).start()


def _watched() -> bool:
    return any(thread.name == WATCHING for thread in threading.enumerate())


class Brake:
    """A second team of OpenMP threads, asleep: with more threads than processors, GNU's libgomp hardly spins."""

    def __init__(self) -> None:
        self._team: tuple[threading.Thread, threading.Event] | None = None

    def pull(self) -> None:
        """Make the team, if there is none, and if torch has loaded GNU's OpenMP."""
        openmp = ctypes.CDLL(None)
        if self._team is None and hasattr(openmp, "GOMP_parallel"):
            release = threading.Event()
            thread = threading.Thread(target=_hold_team, args=(openmp, release), name="brake", daemon=True)
            thread.start()
            self._team = thread, release

    def release(self) -> None:
        """Let the team end, if there is one."""
        if self._team is not None:
            thread, release = self._team
            release.set()
            thread.join()
            self._team = None


def _hold_team(openmp: ctypes.CDLL, release: threading.Event) -> None:
    """Start one OpenMP thread more than there are processors; they last as long as the thread that started them."""
    work = ctypes.cast(openmp.omp_get_num_threads, ctypes.c_void_p)  # any function that does nothing
    openmp.GOMP_parallel(work, None, allowed_processors() + 1, 0)
    release.wait()


def watch(brake: Brake, pause: Callable[[float], None] = time.sleep) -> None:
    """Pull the brake while threads wait for a processor, as they do if something else uses it too; never returns."""
    quiet, before = 0, waited()
    while True:
        pause(LOOK)
        after = waited()
        if longest_wait(before, after) > CONTENDED * LOOK:
            quiet = 0
            brake.pull()
        else:
            quiet += 1
            if quiet == PATIENCE:
                brake.release()
        before = after


def longest_wait(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Return the longest that any thread waited between two looks, in seconds.

    >>> longest_wait({"1": 0.5, "2": 0.1}, {"1": 0.5, "2": 0.25, "3": 4.0})
    0.15
    """
    return max((seconds - before[thread] for thread, seconds in after.items() if thread in before), default=0.0)


def waited() -> dict[str, float]:
    """Return how long each thread of this process could have run and had no processor, in seconds.

    Nothing where the system does not say.
    """
    found = {}
    with suppress(FileNotFoundError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # a thread that has ended meanwhile
                found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
    return found
