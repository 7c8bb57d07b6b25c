"""Masks and maps as grey pictures that other programs read."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.files import written_whole


def write_mask(path: Path, mask: NDArray[np.bool_]) -> Path:
    """Write a mask (H, W) as an 8-bit PNG, 255 inside and 0 outside.

    Returns:
        The file written.

    Raises:
        ValueError: if it is no mask, or has no pixels.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(f"{path}: a mask is {mask.dtype} {mask.shape}; expected booleans (H, W)")
    return write_picture(path, mask.astype(np.uint8) * np.uint8(255))


def write_map(path: Path, values: NDArray[np.floating]) -> Path:
    """Write a map (H, W) of values in [0, 1], such as probabilities, as a 16-bit PNG, 65535 at 1.

    Returns:
        The file written.

    Raises:
        ValueError: if it is no such map, or has no pixels.
    """
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{path}: a map has the shape {values.shape}; expected (H, W)")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(f"{path}: a map has values from {low} to {high}; expected [0, 1]")
    return write_picture(path, np.round(values.astype(np.float64) * 65535).astype(np.uint16))


def write_picture(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Path:
    """Write grey levels (H, W) as a PNG of 8 or 16 bits.

    Returns:
        The file written.
    """
    with written_whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")
    return path
