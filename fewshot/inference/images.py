"""A user's own images and masks, as files, arrays or Pillow's images: decoded and resized as in a store."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import UserError
from episodes.images.decoding import read_image, read_label_map, read_size, stretch_image, stretch_labels
from episodes.records import Record

Picture = str | Path | Image.Image | NDArray[Any]


def listed(pictures: Iterable[Picture], name: str) -> list[Picture]:
    """Several pictures as a list.

    Raises:
        UserError: if it is a single picture; an array of several is (n, H, W).
    """
    single = isinstance(pictures, str | Path | Image.Image)
    if isinstance(pictures, np.ndarray):
        single = pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[-1] in (3, 4))
    if single:
        raise UserError(f"{name}: found a single picture; give a list of pictures, or an array (n, H, W)")
    return list(pictures)


def picture_name(pictures: str, place: int, picture: Picture) -> str:
    """What errors call a picture: its path, or its place among the others.

    >>> picture_name("images", 2, np.zeros((8, 8))), picture_name("images", 2, "mine/a.png")
    ('images[2]', 'mine/a.png')
    """
    return str(picture) if isinstance(picture, str | Path) else f"{pictures}[{place}]"


def grey_image(picture: Picture, name: str) -> NDArray[np.uint8]:
    """The grey values (H, W) of a picture: its luma, without alpha.

    Args:
        picture: a path; or (H, W), (H, W, 3) or (H, W, 4) of 0 to 255, or of floats in [0, 1].
        name: for errors.

    Raises:
        UserError: if it cannot be read as one.
    """
    if isinstance(picture, str | Path):
        return read_image(Path(picture))
    pixels = _bytes(_values(picture, name), name)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def lesion_mask(picture: Picture, name: str) -> NDArray[np.bool_]:
    """Where a mask shows a lesion, (H, W): at 1 among 0 and 1, else in the upper half, of any colour.

    Raises:
        UserError: if it cannot be read as a mask.
    """
    if isinstance(picture, str | Path):
        path = Path(picture)
        record = Record("mask", path, (path,), "unknown", patient=path.stem)
        return read_label_map(record, read_size(path)) > 0
    values = _values(picture, name)
    if values.dtype.kind in "iu" and values.max() == 1:
        values = values == 1
    pixels = _bytes(values, name)
    brightest = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    peak = int(brightest.max())
    if 0 < peak <= 127:
        raise UserError(f"{name}: its brightest value is {peak} of 255; a mask is 0 with lesions at 1 or 255")
    lesion: NDArray[np.bool_] = brightest > 127
    return lesion


def resized_image(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A grey image stretched to a square of this size, antialiased."""
    return stretch_image(image, (size, size))


def resized_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """A mask stretched to a square of this size: the nearest pixel."""
    return stretch_labels(mask.astype(np.uint8), (size, size)) > 0


def _values(picture: Image.Image | NDArray[Any], name: str) -> NDArray[Any]:
    """Values (H, W), or (H, W, 3) of colours."""
    if isinstance(picture, Image.Image):
        picture = picture.convert("RGBA") if picture.mode == "P" else picture
        picture = picture.convert("L") if picture.mode in ("1", "LA") else picture
        picture = picture if picture.mode.startswith(("L", "I", "F")) else picture.convert("RGB")
    values = np.asarray(picture)
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = values[:, :, :3]
    elif values.ndim != 2:
        raise UserError(f"{name}: has the shape {values.shape}; expected (H, W) or (H, W, 3)")
    if not values.size:
        raise UserError(f"{name}: has no pixels, its shape is {values.shape}")
    return values


def _bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    kind = values.dtype.kind
    full_scale = {"b": 1, "f": 1, "i": 255, "u": 255}.get(kind, 0)
    # NaN is neither above nor below.
    if not (full_scale and values.min() >= 0 and values.max() <= full_scale):
        raise UserError(f"{name}: expected integers from 0 to 255 or floats from 0 to 1, found {_range(values)}")
    scaled = values if full_scale == 255 else np.round(values * 255.0)
    return np.ascontiguousarray(scaled.astype(np.uint8))


def _range(values: NDArray[Any]) -> str:
    return f"{values.dtype} from {values.min()} to {values.max()}" if values.dtype.kind in "biuf" else str(values.dtype)
