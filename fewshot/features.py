"""Encoder features as methods pass them around."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """What a method needs of images, whatever the episode they appear in.

    Attributes:
        maps: encoder output, (..., channels, h, w).
        size: (H, W) of the images they came from.
    """

    maps: Tensor
    size: tuple[int, int]
