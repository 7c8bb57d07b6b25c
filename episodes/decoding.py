"""From image files to grey images and label maps: the one place where files are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError
from episodes.records import LABEL_VALUES, Record

# Far above any ultrasound frame, and below the size at which Pillow itself starts to warn.
MAX_PIXELS = 64_000_000

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_HALF = 127  # a mask pixel is set above half of 255
# What a file of more than 8 bits may use as its full scale; scanners often export 12 bits in 16.
_FULL_SCALES = (255, 4095, 65535)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image to its luma (ITU-R BT.601).

    Any mode is read. Alpha is dropped, not blended. Integers of more than 8 bits are scaled from the smallest
    of 8, 12 and 16 bits that holds them; floats within [0, 1] from that range. Pixels are taken as they are
    stored, as those of the masks are: an EXIF orientation is ignored.

    Args:
        path: a PNG, JPEG, BMP or TIFF file of one frame.

    Returns:
        Grey values, (H, W).

    Raises:
        DatasetError: if the file is missing, no image, damaged, larger than `MAX_PIXELS`, or of several
            frames.
    """
    pixels = _read_pixels(path)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def read_size(path: Path) -> tuple[int, int]:
    """Read (H, W) of an image or mask from the file's header.

    Raises:
        DatasetError: as `read_image` does.
    """
    with _open(path) as image:
        return image.height, image.width


def read_label_map(record: Record, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode the masks of a record to one label map, by the dataset's own convention.

    `binary` masks are set where any colour channel is above half, and alpha is never looked at. `colour`
    masks are green for benign and red for malignant; where two masks overlap, malignant wins. A mask whose
    size is not the image's is resized to it (nearest).

    Args:
        record: what to decode; without masks the map is empty.
        size: (H, W) of the decoded image.

    Returns:
        Values of `LABEL_VALUES`, (H, W).

    Raises:
        DatasetError: if a mask cannot be decoded, is too dark to hold a lesion but not black, or holds a
            colour of unknown meaning.
    """
    label_map = np.zeros(size, np.uint8)
    for path in record.masks:
        pixels = _read_pixels(path)
        if record.mask_format == "colour":
            labels = _decode_colours(pixels, path)
        else:
            labels = _decode_binary(pixels, path) * np.uint8(LABEL_VALUES[record.label])
        np.maximum(label_map, _resize_nearest(labels, size), out=label_map)
    return label_map


def _decode_binary(pixels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    brightest = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    if brightest.max() == 1:  # saved as 0 and 1: looks black, is not empty
        return brightest
    _require_visible(brightest, path)
    return (brightest > _HALF).astype(np.uint8)


def _decode_colours(pixels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    _require_visible(pixels, path)
    red, green, blue = np.moveaxis(pixels.astype(np.int16), 2, 0)
    # Resampled edges blend red, green and black: there is no blue, and red + green stay about 255 or below.
    unknown = (blue > 64) | (red + green > 320)
    if unknown.any():
        colour = tuple(pixels[unknown][0].tolist())
        raise DatasetError(
            f"{path}: the colour {colour} is unknown; expected black, green (0, 255, 0) for benign and "
            "red (255, 0, 0) for malignant"
        )
    classes = np.where(red >= green, LABEL_VALUES["malignant"], LABEL_VALUES["benign"])
    return np.where(np.maximum(red, green) > _HALF, classes, 0).astype(np.uint8)


def _require_visible(pixels: NDArray[np.uint8], path: Path) -> None:
    """Refuse a mask that holds something, but nothing that would count: an empty label map would hide it."""
    peak = int(pixels.max())
    if 0 < peak <= _HALF:
        raise DatasetError(f"{path}: its brightest value is {peak}; a mask is black (0) with lesions at 255")


def _resize_nearest(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if labels.shape == size:
        return labels
    height, width = size
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def _read_pixels(path: Path) -> NDArray[np.uint8]:
    """Decode a file to grey values (H, W) or colours (H, W, 3); alpha is dropped."""
    with _open(path) as image:
        return _drop_alpha(image, path)


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image, and say in one line what is wrong where opening or decoding it fails."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _require_one_frame_of_fair_size(image, path)
            yield image
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing; restore the original file") from error
    except Exception as error:  # on damaged files Pillow's decoders raise errors of many types
        raise DatasetError(f"{path} cannot be decoded ({error}); restore the original file") from error


def stretch_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A grey image at another (height, width), antialiased."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def stretch_labels(label_map: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A label map at another (height, width): the nearest pixel's label."""
    return np.asarray(Image.fromarray(label_map).resize(size[::-1], Image.Resampling.NEAREST))


def _require_one_frame_of_fair_size(image: Image.Image, path: Path) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DatasetError(
            f"{path}: {image.width} x {image.height} pixels exceed the limit of {MAX_PIXELS}; "
            "shrink the image or remove it"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DatasetError(f"{path}: holds {frames} frames; save the one to use as an image of its own")


def _drop_alpha(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return _scale_to_bytes(np.asarray(image, np.float64), path)
    if image.mode == "P":
        image = image.convert("RGBA")  # in one step to RGB, Pillow warns of transparent palettes
    return np.asarray(image.convert("RGB"))


def _scale_to_bytes(values: NDArray[np.float64], path: Path) -> NDArray[np.uint8]:
    peak = values.max()
    if not (np.isfinite(values).all() and values.min() >= 0 and peak <= _FULL_SCALES[-1]):
        raise DatasetError(f"{path}: values outside 0..{_FULL_SCALES[-1]}; save it as 8 or 16 bit image")
    has_fractions = bool((values % 1).any())
    full_scale = 1 if has_fractions and peak <= 1 else next(s for s in _FULL_SCALES if peak <= s)
    return np.round(values * (255 / full_scale)).astype(np.uint8)
