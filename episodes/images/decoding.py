"""Grey images and label maps of image files: the one place where files are decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError
from episodes.images.dicom_header import is_dicom, read_dicom_facts
from episodes.images.dicom_pixels import read_pixels, read_stored
from episodes.images.masks import read_binary_mask
from episodes.images.rasters import CLIP_SUFFIXES, count_frames, frame_index, opened, read_raster, upright_size
from episodes.records import LABEL_VALUES, Record

_HALF = 127  # a mask pixel is set above half of 255


def read_image(path: Path, frame: int | None = None, full_scale: float | None = None) -> NDArray[np.uint8]:
    """Decode an image, DICOM or what Pillow reads, to its luma (ITU-R BT.601): grey values, (H, W).

    Any mode is read. Alpha is dropped, not blended. Values of more than 8 bits are scaled so that the full scale is
    white, by default what `rasters.fitting_full_scale` makes of this image alone: for images that belong together,
    choose one with `grey_scales.full_scales`. TIFFs whose 0 is white are inverted. The picture is turned as its EXIF
    orientation says, and so is a mask. DICOM is shown as a viewer does, see
    `episodes.images.dicom_pixels.read_pixels`. Frames count from 1; None is for a file that holds only one.

    Raises:
        DatasetError: if the file is missing, no image, damaged or larger than `rasters.MAX_PIXELS`, or there is no such
            frame.
    """
    pixels = read_pixels(path, frame) if is_dicom(path) else read_raster(path, frame, full_scale)
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


def read_size(path: Path, frame: int | None = None) -> tuple[int, int]:
    """Read (H, W) of an image or mask from the file's header, as the picture is seen; errors as `read_image`."""
    if is_dicom(path):
        facts = read_dicom_facts(path)
        frame_index(facts.frames, frame, path)
        return facts.size
    with opened(path, frame) as image:
        return upright_size(image)


def read_frames(path: Path) -> int:
    """Read from its header how many frames a file holds; DICOM, and `rasters.CLIP_SUFFIXES`, can hold several."""
    if is_dicom(path):
        return read_dicom_facts(path).frames
    return count_frames(path) if path.suffix.lower() in CLIP_SUFFIXES else 1


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The decoded masks of a record."""

    labels: NDArray[np.uint8]  # values of `LABEL_VALUES`, (H, W)
    drawn: NDArray[np.bool_]  # where they mark anything, (H, W): also what the label `normal` contradicts
    # What speaks against their meaning what they say, each with the file and what to do; empty for none.
    doubts: tuple[str, ...] = ()


def decode_masks(record: Record, size: tuple[int, int]) -> LabelMap:
    """Decode the masks of a record to one label map, by the dataset's own convention.

    `binary` masks are read as `episodes.images.masks.decode_mask` says, and `inverted` ones the other way round.
    `colour` masks are green for benign and red for malignant; where two masks overlap, malignant wins. A mask of
    another size but the same proportions as the image's (H, W) is resized to it (nearest). Without masks the map is
    empty.

    Raises:
        DatasetError: if a mask cannot be decoded, has other proportions than the image, which is not known of the
            dataset, does not tell lesion from ground, or holds a colour of unknown meaning.
    """
    labels, drawn, doubts = np.zeros(size, np.uint8), np.zeros(size, np.bool_), list[str]()
    for path in record.masks:
        if record.mask_format == "colour":
            mask = _decode_colours(path)
            marked = mask > 0
        else:
            found = read_binary_mask(path, inverted=record.mask_format == "inverted")
            marked = found.lesion
            mask = marked * np.uint8(LABEL_VALUES[record.label])
            doubts += [f"{path}: {doubt}" for doubt in found.doubts]
        if not (record.odd_masks or is_scaled(mask.shape, size)):
            raise DatasetError(
                f"{path}: is {mask.shape[1]} x {mask.shape[0]} pixels, but {record.image.name} {size[1]} x {size[0]}:"
                " it is turned, cropped or another image's; give them one size"
            )
        np.maximum(labels, stretch_labels(mask, size), out=labels)
        drawn |= stretch_labels(marked.astype(np.uint8), size) > 0
    return LabelMap(labels, drawn, tuple(doubts))


def is_scaled(size: tuple[int, ...], other: tuple[int, int], rounding: float = 1.0) -> bool:
    """Tell whether a picture of one size (H, W) may be the other at another scale, rounded by pixels of the smaller.

    >>> is_scaled((227, 320), (606, 856)), is_scaled((320, 227), (227, 320)), is_scaled((200, 160), (240, 180))
    (True, False, False)
    """
    small, large = sorted((size, other), key=max)
    scale = max(small) / max(large)
    return all(abs(here - there * scale) <= rounding for here, there in zip(small, large, strict=True))


def _decode_colours(path: Path) -> NDArray[np.uint8]:
    pixels = np.asarray(read_stored(path), np.uint8) if is_dicom(path) else read_raster(path)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    peak = int(pixels.max())
    if 0 < peak <= _HALF:  # it holds something, and nothing would count: an empty label map would hide that
        raise DatasetError(f"{path}: its brightest value is {peak}; a mask is black (0) with lesions at 255")
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


def stretch_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a grey image to (height, width), antialiased."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def stretch_labels(label_map: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map to (height, width): the nearest pixel's label.

    A label that falls between the pixels of a smaller map keeps one, where most of it lies: no lesion vanishes.

    >>> stretch_labels(np.eye(8, dtype=np.uint8) * np.eye(8, 1, dtype=np.uint8), (2, 2)).tolist()
    [[1, 0], [0, 0]]
    """
    stretched = np.asarray(Image.fromarray(label_map).resize(size[::-1], Image.Resampling.NEAREST))
    lost = set(np.unique(label_map)) - set(np.unique(stretched)) - {0}
    if lost:
        stretched = stretched.copy()
        for label in sorted(lost):
            places = np.argwhere(label_map == label) * np.array(size) // np.array(label_map.shape)
            pixels, counts = np.unique(places, axis=0, return_counts=True)
            stretched[tuple(pixels[counts.argmax()])] = label
    return stretched
