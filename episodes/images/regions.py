"""Connected regions of masks, and their outlines."""

import cv2
import numpy as np
from contourpy import LineType, contour_generator
from numpy.typing import NDArray


def count_components(mask: NDArray[np.bool_]) -> int:
    """Count the parts of a mask (H, W); pixels that touch at a corner are of one.

    >>> count_components(np.eye(3, dtype=bool)), count_components(np.array([[True, False, True]]))
    (1, 2)
    """
    count, _ = cv2.connectedComponents(mask.astype(np.uint8))
    return int(count) - 1  # the background is one


def contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Find the borders of a mask (H, W), also along the image's edge: closed lines of (x, y) in pixels.

    >>> [line.min(axis=0).tolist() + line.max(axis=0).tolist() for line in contours(np.ones((4, 6), bool))]
    [[0.0, 0.0, 6.0, 4.0]]
    """
    around = np.pad(mask, 1).astype(np.float64)  # a lesion at the image's edge is closed there
    lines = contour_generator(z=around, line_type=LineType.Separate).lines(0.5)
    return [np.asarray(line, np.float64) - 0.5 for line in lines]


def outline(mask: NDArray[np.bool_]) -> str:
    """Write the border of a mask (H, W) as the `d` of an SVG path, in pixels; empty for an empty mask.

    >>> outline(np.ones((1, 1), bool))
    'M0 0.5L0.5 0L1 0.5L0.5 1Z'
    """
    # The last point of a closed line is its first again.
    lines = (line[:-1].round(1) for line in contours(mask))
    return "".join("M" + "L".join(f"{x:.5g} {y:.5g}" for x, y in line) + "Z" for line in lines)
