"""Binary masks: which pixels of a file mark a lesion, in whatever way the file was saved."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from episodes.errors import DatasetError
from episodes.images.dicom_header import is_dicom
from episodes.images.dicom_pixels import read_stored
from episodes.images.rasters import has_white_zero, opened, upright
from episodes.images.regions import count_components

# Chosen on BUSI, BUS-UCLM and BUS-BRA, of whose 2,804 masks none comes near (docs/masks.md has the figures).
GROUND_OF_BORDER = 0.5  # share of the border that a ground holds at least; lesions hold 0.07 at most
GROUND_OF_AREA = 0.5  # share of the picture that a ground covers, unless it holds nearly all of the border
MOST_PARTS = 8  # of a lesion's mask; 3 at most there
LEAST_FILLED = 0.8  # share of a lesion once its holes are filled; 0.999 at least there
LEAST_THICKNESS = 0.15  # radius of the largest disc inside over the root of the area of the largest part; 0.23 there
MOST_OF_AREA = 0.8  # share of the picture that a lesion covers; 0.58 at most there
MOST_OF_BORDER = 0.25  # share of the border that it holds
LEAST_RADIUS = 0.05  # that radius over the extent of more than four parts, which no image has there

# A file of so few values was written as levels; one of more also holds blends of them, from lossy or smooth edges.
_FEW = 8
_NOISE = 24  # of 255: what lossy compression adds to a level
_EDGE = 3  # pixels: in squares of so many to each side, edges hold more than blends, and pictures often do not
_MOST_BLENDS = 0.1  # share of such squares' centres: 0.17 at least of ultrasound images, 0.06 at most of smooth masks
_RINGING = 16  # pixels: so far from an edge lossy compression, of colours at half their size, draws lesser ones
_LEAST_SHARE = 0.02  # of the largest part's area, less than which ringing covers
_PICTURE = (
    "holds grey values in between, as a picture or a map of probabilities does, where a mask has a background and a"
    " lesion: save it with 0 for the background and 255 for the lesion"
)
_LEAST_HALO = 0.03  # share of a lesion that another level around it covers, blends at its edge not counted
_SMALLEST = 16  # pixels a side: in less a border tells nothing
_TOUCHING = np.ones((3, 3))


@dataclass(frozen=True, slots=True)
class MaskPixels:
    """The pixels of a mask file."""

    values: NDArray[Any]  # numbers (H, W) or colours (H, W, 3)
    alpha: NDArray[np.uint8] | None = None  # opacity (H, W); None where there is none
    indices: NDArray[np.uint8] | None = None  # of a palette's colours, (H, W); None where there is no palette

    @classmethod
    def of_picture(cls, picture: Image.Image) -> "MaskPixels":
        """Take the pixels of a picture of any of Pillow's modes."""
        indices = np.asarray(picture) if picture.mode == "P" else None
        if picture.mode in ("P", "PA", "LA", "La", "RGBa", "RGBA") or "transparency" in picture.info:
            rgba = np.asarray(picture.convert("RGBA"))
            return cls(rgba[:, :, :3], rgba[:, :, 3], indices)
        if picture.mode in ("1", "L") or picture.mode.startswith(("I", "F")):
            return cls(np.asarray(picture).astype(np.uint8) if picture.mode == "1" else np.asarray(picture))
        return cls(np.asarray(picture.convert("RGB")))


@dataclass(frozen=True, slots=True)
class BinaryMask:
    """The meaning of a mask file."""

    lesion: NDArray[np.bool_]  # where it marks one, (H, W)
    # What speaks against its being a lesion as it was meant, each with what to do; empty for none.
    doubts: tuple[str, ...] = ()


class _UnclearError(Exception):
    """A way of reading a mask that does not tell lesion from ground, and why not."""


def read_binary_mask(path: Path, *, inverted: bool = False) -> BinaryMask:
    """Read which pixels of a mask file mark a lesion; how is said in `decode_mask`.

    Raises:
        DatasetError: if it cannot be read, or what it means cannot be decided.
    """
    if is_dicom(path):
        return decode_mask(MaskPixels(read_stored(path)), str(path), inverted=inverted)
    with opened(path) as picture:
        white_zero = picture.mode.startswith("I") and has_white_zero(picture)
        pixels = MaskPixels.of_picture(upright(picture))
    if white_zero:
        pixels = MaskPixels(np.iinfo(np.uint16).max - pixels.values)
    return decode_mask(pixels, str(path), inverted=inverted)


def decode_mask(pixels: MaskPixels, name: str, *, inverted: bool = False) -> BinaryMask:
    """Decide which pixels of a mask mark a lesion.

    The ground is 0: a palette's first colour, black, or full transparency where nothing but the opacity varies. Where
    there is none, as behind most colour maps, it is the value that holds the border and most of the picture. All that
    differs from the ground is lesion, of whatever level, but for blends at smooth or lossy edges, which are parted
    half-way. What is called the ground must not lie within what is called the lesion: that mask is the wrong way round.
    In an inverted one the brightest value (a palette's last) is the ground instead. The name is for errors.

    Raises:
        DatasetError: if that does not tell lesion from ground: the mask is inverted, of one value other than 0, without
            a ground, or a grey picture. The message says what to do.
    """
    problems: list[str] = []
    for values in _readings(pixels):
        try:
            found = _decode(values, inverted=inverted)
        except _UnclearError as error:
            problems.append(str(error))
        else:
            return BinaryMask(found.lesion, (*found.doubts, *_doubts_of_shape(found.lesion)))
    raise DatasetError(f"{name}: {problems[-1 if len(set(problems)) == 1 else 0]}")


def _readings(pixels: MaskPixels) -> Iterator[NDArray[Any]]:
    """Yield what a mask may be coded in, the likeliest first: indices, colours, opacity."""
    values, alpha, indices = pixels.values, pixels.alpha, pixels.indices
    if indices is not None and np.unique(indices).size <= _FEW:
        yield indices
    varies = alpha is not None and bool(np.ptp(alpha))
    if not (varies and values.ndim == 3 and (values == values[0, 0]).all()):
        yield values
    if varies and alpha is not None:
        yield alpha


def _decode(values: NDArray[Any], *, inverted: bool) -> BinaryMask:
    """Part one way of reading a mask, (H, W) or (H, W, 3), in lesion and ground; `_UnclearError` if it cannot be."""
    _require_range(values)
    ground = _zero_ground(values, inverted=inverted)
    if ground is None:
        ground = _border_ground(values)
    difference = _difference(values, ground)
    levels = np.unique(difference)
    if levels.size == 1:
        return BinaryMask(difference > 0)
    found = _part_levels(difference, levels[1:]) if levels.size <= _FEW + 1 else _part_blends(difference)
    if _is_ground(found.lesion):
        share = found.lesion.mean()
        if inverted:
            advice = "its darkest part is small and inside: it is not inverted like the others"
        elif share > GROUND_OF_AREA:
            advice = "if all masks are so, say `invert: true` of the dataset, or --invert-masks; else invert this file"
        else:
            advice = "if that is a frame, paint it black"
        raise _UnclearError(
            f"its lesion would hold the border and {100 * share:.0f} % of the picture, as a"
            f" {'background' if share > GROUND_OF_AREA else 'frame'} does: {advice}"
        )
    return found


def _require_range(values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _UnclearError(
            "holds values that are no numbers; save it with 0 for the background and 255 for the lesion"
        )
    if values.min() < 0:
        raise _UnclearError("holds values below 0; save it with 0 for the background and 255 for the lesion")


def _zero_ground(values: NDArray[Any], *, inverted: bool) -> NDArray[Any] | None:
    """Return the value that is the ground by what it is: 0, or the brightest; None where there is no 0."""
    brightness = values if values.ndim == 2 else values.max(axis=2)
    if not inverted:
        lowest = brightness.min()
        # Lossy black may be a little above 0; levels that were written so may not.
        dark = lowest <= _NOISE / 3 and values.dtype == np.uint8 and np.unique(brightness).size > _FEW
        return np.zeros(values.shape[2:], values.dtype) if lowest == 0 or dark else None
    brightest = values.sum(axis=2, dtype=np.int64) if values.ndim == 3 else values
    return np.asarray(values.reshape(-1, *values.shape[2:])[brightest.argmax()])


def _border(values: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def _border_ground(values: NDArray[Any]) -> NDArray[Any]:
    """Return the value that holds the border and most of the picture."""
    border = _border(values)
    colours, counts = np.unique(border, axis=0, return_counts=True)
    ground: NDArray[Any] = colours[counts.argmax()]
    if (values == ground).all():
        value = ground if ground.ndim == 0 else tuple(ground.tolist())
        raise _UnclearError(
            f"every pixel is {value}: nothing tells lesion from background; outline the lesion in white on"
            " black, or, where nothing is to be marked, save it black or remove it"
        )
    if not _is_ground(_difference(values, ground) <= _NOISE):
        if np.unique(values.reshape(-1, *values.shape[2:]), axis=0).shape[0] > 8 * _FEW:
            raise _UnclearError(_PICTURE)
        raise _UnclearError(
            "no value of it is a background: none is 0, and none holds the border and most of the picture; save it with"
            " 0 for the background and 255 for the lesion"
        )
    return ground


def _is_ground(region: NDArray[np.bool_]) -> bool:
    """Tell whether a region (H, W) holds the border and most of the picture, as no lesion does."""
    of_border = _border(region).mean()
    return min(region.shape) >= _SMALLEST and bool(
        of_border > GROUND_OF_BORDER and (region.mean() > GROUND_OF_AREA or of_border > 0.9)
    )


def _difference(values: NDArray[Any], ground: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far values are from the ground, (H, W): that of the channel that differs most; up to 255."""
    difference = np.abs(values.astype(np.float64) - ground.astype(np.float64))
    if values.ndim == 3:
        return np.asarray(difference.max(axis=2))
    return difference if values.dtype in (np.uint8, np.bool_) else difference * (255 / (difference.max() or 1))


def _flat(difference: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which pixels equal all eight around them."""
    return np.asarray(ndimage.minimum_filter(difference, 3) == ndimage.maximum_filter(difference, 3))


def _part_levels(difference: NDArray[np.float64], levels: NDArray[np.float64]) -> BinaryMask:
    """Take all levels as lesion but those that are only blends at the edges of others: no area, and never alone."""
    if levels.size == 1:
        return BinaryMask(difference > 0)
    flat = _flat(difference)
    parts, _ = ndimage.label(difference > 0, structure=_TOUCHING)
    count = int(parts.max())
    high = ndimage.maximum(difference, parts, range(1, count + 1))
    low = ndimage.minimum(difference, parts, range(1, count + 1))
    # What is alone and faint may be left of a compression at high quality.
    alone = {float(top) for top, bottom in zip(high, low, strict=True) if top == bottom > levels[-1] / 10}
    real = [level for level in levels if (flat & (difference == level)).any() or float(level) in alone]
    lowest = min(real, default=levels[-1])
    lesion = difference > lowest / 2
    inner = max((level for level in real if _is_enclosed(difference == level, difference == 0)), default=lowest)
    halo = flat & (difference > 0) & (difference < inner)
    nested = "one level lies inside another, and both count as lesion; give the lesion one value"
    doubts = (nested,) if halo.sum() > _LEAST_HALO * lesion.sum() else ()
    return BinaryMask(lesion, doubts)


def _is_enclosed(region: NDArray[np.bool_], ground: NDArray[np.bool_]) -> bool:
    """Tell whether hardly any of the pixels next to a region are ground."""
    rim = ndimage.binary_dilation(region, _TOUCHING) & ~region
    return bool(rim.any() and (rim & ground).sum() < 0.1 * rim.sum())


def _part_blends(difference: NDArray[np.float64]) -> BinaryMask:
    """Part lossy or smooth edges half-way between the ground and the level of each region."""
    if (flat := _flat(difference)).any() and np.isin(difference, np.unique(difference[flat])).all():
        return BinaryMask(difference > 0)  # many levels, and no blends
    above = difference > _NOISE
    parts, count = ndimage.label(above, structure=_TOUCHING)
    if not count:
        raise _UnclearError(
            f"nothing in it differs from the background by more than {difference.max():.0f} of 255, and not in clear"
            " levels; save it with 0 for the background and 255 for the lesion"
        )
    each = range(1, count + 1)
    tops = np.concatenate([[0.0], ndimage.maximum(difference, parts, each)])
    upper = np.where(difference > tops[parts] / 2, parts, 0)  # of this the median, as lossy compression overshoots
    levels = np.concatenate([[0.0], ndimage.median(difference, upper, each)])
    between = above & (difference < levels[parts] - _NOISE)
    deep = ndimage.minimum_filter(between, 2 * _EDGE + 1, mode="constant", cval=1)
    if deep.sum() > _MOST_BLENDS * above.sum():
        raise _UnclearError(_PICTURE)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    main = (tops > tops.max() / 2) & (areas > _LEAST_SHARE * areas[1:].max())
    beside = ndimage.maximum_filter(main[parts], 2 * _RINGING + 1, mode="constant")
    alone = np.concatenate([[False], ndimage.minimum(beside, parts, each) == 0])
    flat_parts = np.concatenate([[False], ndimage.maximum(flat, parts, each) > 0])
    counted = main | (alone & (flat_parts | (tops > tops.max() / 2)))
    lesion = above & counted[parts] & (difference > levels[parts] / 2)
    lesion &= ~_ringing(lesion)
    if count_components(lesion) + count_components(~lesion) > 3 * MOST_PARTS:
        raise _UnclearError(_PICTURE)
    faint = int((alone & ~counted).sum())
    doubts = (f"{faint} faint parts are not counted; give the lesion one value, such as 255",) if faint else ()
    return BinaryMask(lesion, doubts)


def _ringing(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the parts of a lesion (H, W) that are small and close to large ones."""
    parts, count = ndimage.label(lesion, structure=_TOUCHING)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    small = areas <= _LEAST_SHARE * areas[1:].max(initial=0)
    beside = ndimage.maximum_filter(lesion & ~small[parts], 2 * _RINGING + 1, mode="constant")
    return np.asarray(lesion & small[parts] & beside)


def _doubts_of_shape(lesion: NDArray[np.bool_]) -> tuple[str, ...]:
    """Say whether a lesion (H, W) is nearly all of the picture, an outline that was not filled, or specks."""
    if not lesion.any():
        return ()
    share, of_border = lesion.mean(), _border(lesion).mean()
    if min(lesion.shape) >= _SMALLEST and (share > MOST_OF_AREA or of_border > MOST_OF_BORDER):
        covers = f"its lesion covers {100 * share:.0f} % of the picture and {100 * of_border:.0f} % of its border"
        return (f"{covers}; see whether it is the wrong way round, or marks other tissue too",)
    # What lies around it costs time, and tells nothing.
    rows, columns = ndimage.find_objects(lesion.astype(np.uint8))[0]
    lesion = lesion[rows, columns]
    parts, count = ndimage.label(lesion, structure=_TOUCHING)
    radius = float(ndimage.distance_transform_edt(np.pad(lesion, 1)).max())
    if count > MOST_PARTS or (count > MOST_PARTS // 2 and radius < LEAST_RADIUS * float(np.hypot(*lesion.shape))):
        return (f"its lesion is in {count} parts, as specks or a dashed line are; outline the lesion, and fill it",)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    area = int(largest.sum())
    filled = int(ndimage.binary_fill_holes(largest).sum())
    if area < LEAST_FILLED * filled or radius < LEAST_THICKNESS * area**0.5:
        return ("its lesion is a ring or a line, as of an outline that was not filled; fill it",)
    return ()
