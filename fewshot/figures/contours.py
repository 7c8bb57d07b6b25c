"""Borders of masks as lines."""

import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray


def contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The borders of a mask (H, W), also along the image's edge: closed lines of (x, y) in pixels.

    >>> [line.min(axis=0).tolist() + line.max(axis=0).tolist() for line in contours(np.ones((4, 6), bool))]
    [[0.0, 0.0, 6.0, 4.0]]
    """
    around = np.pad(mask, 1).astype(np.float64)  # a lesion at the image's edge is closed there
    lines = contour_generator(z=around, line_type=LineType.Separate).lines(0.5)
    return [np.asarray(line, np.float64) - 0.5 for line in lines]
