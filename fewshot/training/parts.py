"""Batches in parts, for steps whose whole batch does not fit in memory."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fewshot.memory.out_of_memory import NotEnoughMemoryError

logger = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]  # along the first axis of each: episodes or images


@dataclass(slots=True)
class Parts:
    """In how many parts batches are computed: one, until memory does not suffice.

    Attributes:
        training: of a training batch.
        validation: of a validation batch, which needs no gradients and so may do with fewer.
    """

    training: int = 1
    validation: int = 1

    def double(self, kind: Literal["training", "validation"], n_items: int, step: int) -> None:
        """Compute in twice as many parts from here on.

        Args:
            kind: which batches did not fit.
            n_items: that the largest of them has.
            step: of the training, for the message.

        Raises:
            NotEnoughMemoryError: if every item is a part already.
        """
        tried = getattr(self, kind)
        if tried >= n_items:
            raise NotEnoughMemoryError(
                f"{kind}: out of memory at step {step + 1} with one item of the batch at a time; the last saved state"
                " is left. Choose another device, or under another name a smaller image_size or precision bfloat16"
            )
        setattr(self, kind, min(2 * tried, n_items))
        logger.warning(
            "%s: out of memory at step %d; batches of %d are computed in %d parts from here on",
            *(kind, step + 1, n_items, getattr(self, kind)),
        )


def batch_size(batch: Batch) -> int:
    """How many episodes or images a batch has."""
    return len(next(iter(batch.values())))


def divided(batch: Batch, parts: int) -> Iterator[dict[str, Tensor]]:
    """Consecutive parts of a batch that differ in size by one at most; no more of them than it has items.

    >>> import torch
    >>> [part["x"].tolist() for part in divided({"x": torch.arange(5)}, 2)]
    [[0, 1, 2], [3, 4]]
    """
    split = {name: tensor.tensor_split(min(parts, len(tensor))) for name, tensor in batch.items()}
    for pieces in zip(*split.values(), strict=True):
        yield dict(zip(split, pieces, strict=True))


def all_divided(batches: Iterable[tuple[int, Batch]], parts: int) -> Iterator[tuple[int, Batch]]:
    """Batches with their sizes, each in parts with theirs."""
    for _, batch in batches:
        for part in divided(batch, parts):
            yield batch_size(part), part
