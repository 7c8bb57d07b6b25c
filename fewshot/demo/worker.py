"""One thread that computes, so that the page's server always answers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Worker:
    """Does one thing after another, in a thread of its own.

    Args:
        name: of the thread.

    Attributes:
        waiting: how many things are being done or wait to be.
    """

    def __init__(self, name: str) -> None:
        self.waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function when its turn comes, and wait for what it returns or raises."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Begin nothing more; what is being done is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
