"""PNG files of masks, probabilities, and images with the outlines of masks."""

import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from episodes.io.files import write_bytes
from episodes.records import LABEL_VALUES

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# BUS-UCLM's own colours of masks, by which its reader tells the classes.
GREEN, RED = "#00ff00", "#ff0000"
# Of outlines on a dark image; LESION is of a prediction, or of a lesion of no known kind.
BENIGN, MALIGNANT, LESION = "#3df08b", "#ff4040", "#8bd3ff"

# Speckle hardly compresses: one filter instead of the best for each line, and the first level, take two thirds of the
# time for the same size. In 16 bits no string of bytes comes again: to look for runs alone takes a third for 4 % more.
_QUICK = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB, cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY)
_STRATEGIES = {1: cv2.IMWRITE_PNG_STRATEGY_DEFAULT, 2: cv2.IMWRITE_PNG_STRATEGY_RLE}  # by the bytes of a value
_COLOURS = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}


def png(pixels: Pixels) -> bytes:
    """Encode grey values (H, W) of 8 or 16 bits, or colours (H, W, 3 or 4), as a PNG file."""
    shown = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, _COLOURS[pixels.shape[2]])
    _, encoded = cv2.imencode(".png", shown, (*_QUICK, _STRATEGIES[pixels.itemsize]))
    return encoded.tobytes()


def mask_png(mask: NDArray[np.bool_], label_map: NDArray[np.uint8] | None = None) -> bytes:
    """Encode a mask (H, W) as 0 and 255; with `LABEL_VALUES` (H, W), green for benign and red for malignant."""
    return png(_grey_mask(mask) if label_map is None else _palette(GREEN, RED)[label_map])


def probability_png(probability: NDArray[np.floating]) -> bytes:
    """Encode probabilities (H, W) in [0, 1] as 16 bits, 65535 at 1."""
    return png(_sixteen_bits(probability))


def write_mask(path: Path, mask: NDArray[np.bool_]) -> Path:
    """Write a mask (H, W) as an 8-bit PNG, 255 inside and 0 outside.

    Raises:
        ValueError: if it is no mask, or has no pixels.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise ValueError(f"{path}: a mask is {mask.dtype} {mask.shape}; expected booleans (H, W)")
    return write_picture(path, _grey_mask(mask))


def write_map(path: Path, values: NDArray[np.floating]) -> Path:
    """Write a map (H, W) of values in [0, 1], such as probabilities, as a 16-bit PNG, 65535 at 1.

    Raises:
        ValueError: if it is no such map, or has no pixels.
    """
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{path}: a map has the shape {values.shape}; expected (H, W)")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise ValueError(f"{path}: a map has values from {low} to {high}; expected [0, 1]")
    return write_picture(path, _sixteen_bits(values))


def write_picture(path: Path, pixels: Pixels) -> Path:
    """Write grey levels (H, W) as a PNG of 8 or 16 bits, and return its path."""
    write_bytes(path, png(pixels))
    return path


def overlay_png(image: NDArray[np.uint8], mask: NDArray[np.bool_], label_map: NDArray[np.uint8] | None = None) -> bytes:
    """Draw the outline of a mask (H, W) on a grey image (H, W), and encode it as a PNG file.

    The line lies on the mask's own outermost pixels, also along the image's edge, with a dark seam around it, so that
    it shows on bright tissue too. A label map (H, W) colours it by its values.

    Colours are of a palette: a third of the bytes to compress. Its last places are the lines', so that the brightest
    grey levels, `WHITE` and above, are shown alike.
    """
    places = np.minimum(image, WHITE)
    if mask.any():
        thick = max(1, round(min(mask.shape) / 300))
        left, top, wide, high = cv2.boundingRect(mask.view(np.uint8))
        box = slice(max(0, top - thick), top + high + thick), slice(max(0, left - thick), left + wide + thick)
        inside, part, square = mask[box].astype(np.uint8), places[box], np.ones((2 * thick + 1,) * 2, np.uint8)
        part[cv2.dilate(inside, square) > inside] //= 3
        line = inside > cv2.erode(inside, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        part[line] = WHITE + (LABEL_VALUES["unknown"] if label_map is None else label_map[box][line])
    shown, buffer = Image.fromarray(places), BytesIO()
    shown.putpalette(_OVERLAY_COLOURS.tobytes())
    shown.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)  # indices are not filtered
    return buffer.getvalue()


def _palette(benign: str, malignant: str) -> NDArray[np.uint8]:
    """Return a colour for each value of a label map; black of the background."""
    palette = np.zeros((len(LABEL_VALUES), 3), np.uint8)
    palette[LABEL_VALUES["benign"]] = ImageColor.getrgb(benign)
    palette[LABEL_VALUES["malignant"]] = ImageColor.getrgb(malignant)
    palette[LABEL_VALUES["unknown"]] = ImageColor.getrgb(LESION)
    return palette


def _grey_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)


def _sixteen_bits(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    scaled: NDArray[np.float64] = np.multiply(values, 65535, dtype=np.float64)
    return np.rint(scaled, out=scaled).astype(np.uint16)


WHITE = 255 - max(LABEL_VALUES.values())
_GREYS = np.repeat(np.arange(WHITE + 1, dtype=np.uint8)[:, None], 3, axis=1)
_OVERLAY_COLOURS = np.concatenate([_GREYS, _palette(BENIGN, MALIGNANT)[1:]])
