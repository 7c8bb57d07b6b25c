"""What tests ask of a picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(path: Path) -> NDArray[np.int16]:
    """Colours of a PNG file, (H, W, 3)."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(np.int16)


def size_in_inches(path: Path) -> tuple[float, float]:
    """Width and height at 150 pixels per inch, which the file must say as well."""
    with Image.open(path) as image:
        assert [round(value) for value in image.info["dpi"]] == [150, 150]
        return image.width / 150, image.height / 150


def coloured(path: Path, colour: str) -> NDArray[np.bool_]:
    """Where a picture has a colour such as #0072B2, but for anti-aliasing, (H, W)."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return (np.abs(pixels(path) - wanted) < 25).all(axis=2)
