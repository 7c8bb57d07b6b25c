"""The same work on many files at once: threads suit it, since decoders and hashes release the interpreter's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]  # (done, total)


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], progress: Progress | None = None, threads: int | None = None
) -> Iterator[Result]:
    """Yield the result for each item, in their order; after an error or an interruption the rest is not waited for.

    The progress is called after each item with the number done and the total. By default there are as many threads as
    processors.

    >>> list(in_threads(str.upper, ["a", "b", "c"], threads=2))
    ['A', 'B', 'C']
    """
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        for done, result in enumerate(pool.map(work, items), start=1):
            yield result
            if progress is not None:
                progress(done, len(items))
    finally:
        pool.shutdown(cancel_futures=True)
