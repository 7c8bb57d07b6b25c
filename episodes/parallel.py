"""The same work on many files at once: threads suit it, since decoders and hashes release the interpreter's lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]  # (done, total)


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None, threads: int | None = None
) -> Iterator[Result]:
    """Yield the result for each item, in their order; after an error or an interruption the rest is not waited for.

    The progress is called after each item with the number done and the total. By default there are `n_processors()`
    threads.

    >>> list(in_threads(str.upper, ["a", "b", "c"], threads=2))
    ['A', 'B', 'C']
    """
    with _threads(threads or n_processors()) as pool:
        for done, result in enumerate(pool.map(work, items), start=1):
            yield result
            if progress is not None:
                progress(done, len(items))


def ahead_in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """Yield the result for each item, in their order, while the next `ahead` are worked on or wait.

    Items are drawn here, not in the threads, and no more of them than that. After an error, theirs or of the work, or
    an interruption the rest is not waited for.

    >>> list(ahead_in_threads(str.upper, iter("abc"), threads=2, ahead=1))
    ['A', 'B', 'C']
    """
    waiting: deque[Future[Result]] = deque()
    with _threads(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def n_processors(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many processors this process may keep busy, at least 1: a container's limit counts, rounded down.

    `groups` and `membership` are where Linux says so (cgroup v2).
    """
    own = ""
    with suppress(OSError):
        own = next((line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")), "")
    inner, limits = groups / own.lstrip("/"), [float(allowed_processors())]
    for group in (inner, *inner.parents):
        with suppress(OSError, ValueError):  # there is no limit: no such file, or `max`
            quota, period = map(float, (group / "cpu.max").read_text().split())
            limits.append(quota / period)
    return max(1, int(min(limits)))


def allowed_processors() -> int:
    """Return how many processors the system lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
