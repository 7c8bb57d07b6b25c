"""Encoder features as methods pass them around."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """What a method needs of images, whatever the episode they appear in.

    Attributes:
        levels: encoder outputs, shallow to deep, each (..., channels, h, w) with the same leading axes.
        size: (H, W) of the images they came from.
    """

    levels: tuple[Tensor, ...]
    size: tuple[int, int]

    @property
    def deepest(self) -> Tensor:
        """The last level, (..., channels, h, w)."""
        return self.levels[-1]

    def room(self, count: int) -> "Features":
        """Room for the features of so many images like these: their values are arbitrary until they are put there."""
        return Features(tuple(level.new_empty((count, *level.shape[1:])) for level in self.levels), self.size)

    def put(self, start: int, part: "Features") -> None:
        """Write the features of consecutive images of the first axis, the first of which is `start`."""
        for level, values in zip(self.levels, part.levels, strict=True):
            level[start : start + len(values)] = values

    def take(self, rows: Sequence[int]) -> "Features":
        """The features of some images of the first axis; without a copy where they follow each other."""
        return Features(tuple(take(level, rows) for level in self.levels), self.size)

    def unsqueeze(self) -> "Features":
        """The same with one more leading axis of length 1."""
        return Features(tuple(level.unsqueeze(0) for level in self.levels), self.size)


def take(maps: Tensor, rows: Sequence[int]) -> Tensor:
    """The rows of a tensor; without a copy where they follow each other.

    >>> import torch
    >>> take(torch.arange(5), [1, 2, 3]).tolist(), take(torch.arange(5), [3, 1]).tolist()
    ([1, 2, 3], [3, 1])
    """
    consecutive = all(later == earlier + 1 for earlier, later in pairwise(rows))
    return maps[rows[0] : rows[-1] + 1] if consecutive else maps[list(rows)]
