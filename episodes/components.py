"""Separate lesions of one mask."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def count_components(mask: NDArray[np.bool_]) -> int:
    """How many parts a mask (H, W) has; pixels that touch at a corner are of one.

    >>> count_components(np.eye(3, dtype=bool)), count_components(np.array([[True, False, True]]))
    (1, 2)
    """
    _, count = ndimage.label(mask, structure=np.ones((3, 3)))
    return int(count)
