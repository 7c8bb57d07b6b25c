"""Grey images and label maps of image files: the one place where files are decoded."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError
from episodes.images.dicom_header import is_dicom, read_facts
from episodes.images.dicom_pixels import read_pixels, read_stored
from episodes.images.rasters import CLIP_SUFFIXES, count_frames, frame_index, opened, read_raster, scale_to_bytes
from episodes.records import LABEL_VALUES, Record

_HALF = 127  # a mask pixel is set above half of 255


def read_image(path: Path, frame: int | None = None, full_scale: float | None = None) -> NDArray[np.uint8]:
    """Decode an image, DICOM or what Pillow reads, to its luma (ITU-R BT.601): grey values, (H, W).

    Any mode is read. Alpha is dropped, not blended. Values of more than 8 bits are scaled so that the full scale is
    white, by default what `rasters.fitting_full_scale` makes of this image alone: for images that belong together,
    choose one with `grey_scales.full_scales`. TIFFs whose 0 is white are inverted. Pixels are taken as they are
    stored, as those of the masks are: an EXIF orientation is ignored. DICOM is shown as a viewer does, see
    `episodes.images.dicom_pixels.read_pixels`. Frames count from 1; None is for a file that holds only one.

    Raises:
        DatasetError: if the file is missing, no image, damaged or larger than `rasters.MAX_PIXELS`, or there is no such
            frame.
    """
    pixels = read_pixels(path, frame) if is_dicom(path) else read_raster(path, frame, full_scale)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def read_size(path: Path, frame: int | None = None) -> tuple[int, int]:
    """Read (H, W) of an image or mask from the file's header.

    Raises:
        DatasetError: as `read_image` does.
    """
    if is_dicom(path):
        facts = read_facts(path)
        frame_index(facts.frames, frame, path)
        return facts.size
    with opened(path, frame) as image:
        return image.height, image.width


def read_frames(path: Path) -> int:
    """Read from its header how many frames a file holds; DICOM, and `rasters.CLIP_SUFFIXES`, can hold several.

    Raises:
        DatasetError: if the header cannot be read.
    """
    if is_dicom(path):
        return read_facts(path).frames
    return count_frames(path) if path.suffix.lower() in CLIP_SUFFIXES else 1


def read_label_map(record: Record, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode the masks of a record to one label map, values of `LABEL_VALUES`, by the dataset's own convention.

    `binary` masks are set where any colour channel is above half, and alpha is never looked at. `colour`
    masks are green for benign and red for malignant; where two masks overlap, malignant wins. A mask whose
    size is not the image's (H, W) is resized to it (nearest). Without masks the map is empty.

    Raises:
        DatasetError: if a mask cannot be decoded, is too dark to hold a lesion but not black, or holds a
            colour of unknown meaning.
    """
    label_map = np.zeros(size, np.uint8)
    for path in record.masks:
        pixels = _read_mask(path)
        if record.mask_format == "colour":
            labels = _decode_colours(pixels, path)
        else:
            labels = _decode_binary(pixels, path) * np.uint8(LABEL_VALUES[record.label])
        np.maximum(label_map, stretch_labels(labels, size), out=label_map)
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


def _read_mask(path: Path) -> NDArray[np.uint8]:
    if not is_dicom(path):
        return read_raster(path)
    stored: NDArray[Any] = read_stored(path)
    return stored if stored.ndim == 3 else scale_to_bytes(stored, path)


def stretch_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a grey image to (height, width), antialiased."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def stretch_labels(label_map: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map to (height, width): the nearest pixel's label."""
    return np.asarray(Image.fromarray(label_map).resize(size[::-1], Image.Resampling.NEAREST))
