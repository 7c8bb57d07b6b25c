"""Outlines of masks as SVG paths: sharp at any size, and a few hundred bytes."""

import numpy as np
from numpy.typing import NDArray

from fewshot.figures.contours import contours


def outline(mask: NDArray[np.bool_]) -> str:
    """The border of a mask (H, W) as the `d` of an SVG path, in pixels; empty for an empty mask.

    >>> outline(np.ones((1, 1), bool))
    'M0 0.5L0.5 0L1 0.5L0.5 1Z'
    """
    return "".join(_path(line) for line in contours(mask))


def _path(points: NDArray[np.float64]) -> str:
    """A closed line; its last point, which is its first again, is left out."""
    return "M" + "L".join(f"{x:.5g} {y:.5g}" for x, y in points[:-1].round(1)) + "Z"
