"""Threads of the command line: how many of them compute, and when they may spin while they wait.

An OpenMP thread that has done its piece spins until there is another: to wake a sleeping one costs up to twice a small
training step. On a processor that something else uses as well, spinning takes the time that the other threads' pieces
need, and a step takes four times as long. No length of spinning is good for both (docs/speed.md), so it is changed
while the command runs, which changes no result.
"""

import ctypes
import os
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
    watched = any(thread.name == WATCHING for thread in threading.enumerate())
    if not alone and not watched and "GOMP_SPINCOUNT" not in environment:
        threading.Thread(target=watch, name=WATCHING, daemon=True).start()


def watch(pause: Callable[[float], None] = time.sleep) -> None:
    """Keep threads from spinning while one waits for a processor, as it does if something else uses it too.

    It never returns, but at once where the system does not say how long threads wait.
    """
    quiet, before, release = 0, waited(), None
    while before:
        pause(LOOK)
        after = waited()
        quiet = 0 if longest_wait(before, after) > CONTENDED * LOOK else quiet + 1
        if quiet == 0 and release is None:
            release = hold_team()
        elif quiet == PATIENCE and release is not None:
            release.set()
            release = None
        before = after


def hold_team() -> threading.Event | None:
    """Hold a second team of OpenMP threads, asleep, until the event is set; None without GNU's OpenMP.

    Where there are more threads than processors, those of GNU's libgomp hardly spin (`GOMP_SPINCOUNT` in its manual).
    A team counts until the thread that started it ends.
    """
    openmp = ctypes.CDLL(None)  # what is loaded by now for all: torch loads its OpenMP so
    if not hasattr(openmp, "GOMP_parallel"):
        return None
    # What the team does is a function of C that does nothing: Python's would have to wait for the lock in each thread.
    nothing = ctypes.cast(openmp.omp_get_num_threads, ctypes.c_void_p)
    release = threading.Event()

    def hold() -> None:
        openmp.GOMP_parallel(nothing, None, allowed_processors() + 1, 0)
        release.wait()

    threading.Thread(target=hold, name="brake", daemon=True).start()
    return release


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
