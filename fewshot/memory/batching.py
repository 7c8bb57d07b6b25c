"""Batches that become smaller when memory runs out: the run goes on, and says so."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from fewshot.memory.out_of_memory import NotEnoughMemoryError, within_memory

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batching:
    """How many images are computed at once: fewer for good, once memory has not sufficed for so many.

    What is computed of an image does not depend on its batch but for rounding (and dropout, where it is sampled), so
    the results are those of a run that had the smaller batches from the start.

    Args:
        device: where they are computed.
        size: images at once; None for `default_batch_size`.

    Attributes:
        size: images at once, as it is now.
    """

    def __init__(self, device: torch.device, size: int | None = None) -> None:
        self.device = device
        self.size = size or default_batch_size(device)

    def over(
        self, items: Sequence[Item], compute: Callable[[list[Item]], Result]
    ) -> Iterator[tuple[list[Item], Result]]:
        """Compute something of all items, a batch at a time.

        Args:
            items: what there is, such as rows of a store.
            compute: of one batch; must leave nothing behind if memory does not suffice for it.

        Yields:
            Every batch with what was computed of it, in order.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single item.
        """
        done = 0
        while done < len(items):
            batch = list(items[done : done + self.size])
            try:
                result = within_memory(partial(compute, batch), f"{self.device}, one image at a time")
            except NotEnoughMemoryError:
                if len(batch) == 1:
                    raise
                self._halve(len(batch))
                continue
            done += len(batch)
            yield batch, result

    def _halve(self, tried: int) -> None:
        self.size = tried // 2
        logger.warning("%s: out of memory with %d images at once; going on with %d", self.device, tried, self.size)


def default_batch_size(device: torch.device) -> int:
    """Images to segment at once: few on a CPU, whose caches hold the activations of few, else many."""
    return 4 if device.type == "cpu" else 32


def batched(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """Consecutive pieces of at most `size` items.

    >>> list(batched(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    return (list(items[start : start + size]) for start in range(0, len(items), size))
