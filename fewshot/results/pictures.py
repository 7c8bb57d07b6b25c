"""Pictures of masks and probabilities, as files and bytes."""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from episodes.io.files import written_whole
from episodes.records import LABEL_VALUES


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


Colour = tuple[int, int, int]

LESION: Colour = (139, 211, 255)
"""The outline of a lesion of no known kind: pale blue, as predictions are in the project's figures."""

# BUS-UCLM's own, by which its reader knows the classes again.
GREEN, RED = (0, 255, 0), (255, 0, 0)
# The same on a dark image, as in `fewshot.plots.datasets`.
BENIGN, MALIGNANT = (61, 240, 139), (255, 64, 64)


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Grey values (H, W) of 8 or 16 bits, or colours (H, W, 3 or 4), as a PNG file."""
    buffer = BytesIO()
    # Speckle hardly compresses: the first level takes a fifth of the time for nearly the same size.
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def mask_png(mask: NDArray[np.bool_], label_map: NDArray[np.uint8] | None = None) -> bytes:
    """A mask (H, W) as 0 and 255; with classes in their colours, green for benign and red for malignant.

    Args:
        mask: where there is a lesion.
        label_map: which kind, values of `LABEL_VALUES`, (H, W).
    """
    if label_map is None:
        return png(mask.astype(np.uint8) * np.uint8(255))
    return png(_palette(GREEN, RED)[label_map])


def probability_png(probability: NDArray[np.floating]) -> bytes:
    """Probabilities (H, W) in [0, 1] as 16 bits, 65535 at 1."""
    return png(np.round(probability.astype(np.float64) * 65535).astype(np.uint16))


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], label_map: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """An image with the outline of a mask.

    The line lies on the mask's own outermost pixels, with a dark seam around it, so that it shows on bright tissue too.

    Args:
        image: grey values, (H, W).
        mask: (H, W).
        label_map: whose values colour the line; None for one colour.

    Returns:
        Colours, (H, W, 3).
    """
    colours = np.repeat(image[..., None], 3, axis=2)
    if not mask.any():
        return colours
    thick = max(1, round(min(mask.shape) / 300))
    box = _box(mask, thick)
    inside = mask[box]
    seam = _grown(inside, thick, beyond=False) & ~inside
    line = inside & _grown(~inside, thick, beyond=True)  # also along the image's edge
    part = colours[box]
    part[seam] //= 3
    palette = _palette(BENIGN, MALIGNANT)
    part[line] = LESION if label_map is None else palette[label_map[box]][line]
    return colours


def _palette(benign: Colour, malignant: Colour) -> NDArray[np.uint8]:
    """A colour for each value of a label map."""
    palette = np.zeros((len(LABEL_VALUES), 3), np.uint8)
    palette[LABEL_VALUES["benign"]] = benign
    palette[LABEL_VALUES["malignant"]] = malignant
    palette[LABEL_VALUES["unknown"]] = LESION
    return palette


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The rows and columns that a mask takes up, and so many more on each side."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _grown(mask: NDArray[np.bool_], by: int, *, beyond: bool) -> NDArray[np.bool_]:
    """A mask with all that lies within a square around each of its pixels; `beyond` is what lies beyond its edges."""
    grown: NDArray[np.bool_] = ndimage.maximum_filter(mask, 2 * by + 1, mode="constant", cval=beyond)
    return grown
