"""Image files that Pillow decodes, such as PNG, JPEG and TIFF. One frame at a time, as bytes."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, features

from episodes.errors import DatasetError

# Far above any ultrasound frame, and below the size at which Pillow itself starts to warn.
MAX_PIXELS = 64_000_000

_AVIF = bool(features.check("avif"))  # not every build of Pillow has it
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", *(["AVIF"] if _AVIF else []))
CLIP_SUFFIXES = frozenset({".tif", ".tiff", ".gif", ".webp", *([".avif"] if _AVIF else [])})
"""Of files that may hold several frames."""
SUFFIXES = CLIP_SUFFIXES | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp"}
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I": 32, "F": 32}  # all other modes have 8
# What shows a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What integers of more than 8 bits may use: scanners often export 10, 12 or 14 bits in 16.
_FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MINISWHITE = 258, 262, 0  # of TIFF


def read_raster(path: Path, frame: int | None = None, full_scale: float | None = None) -> NDArray[np.uint8]:
    """Decode a frame, counted from 1, to grey values (H, W) or colours (H, W, 3), as it is seen; alpha is dropped.

    The full scale is the value of more than 8 bits that is shown white; None for what fits this frame alone.

    Raises:
        DatasetError: if the file is missing, no image, damaged or larger than `MAX_PIXELS`, or there is no such
            frame.
    """
    with opened(path, frame) as image:
        deep_white = _is_deep(image) and has_white_zero(image)
        shown = _drop_alpha(upright(image), path, full_scale)
        return 255 - shown if deep_white else shown


def read_deep(path: Path, frame: int | None = None) -> tuple[NDArray[Any], float | None] | None:
    """Read a frame's grey values as they are stored, (H, W), and the full scale where the file states one.

    None is for a picture of at most 8 bits, which has no scale to choose. The errors are those of `read_raster`.
    """
    with readable(path), path.open("rb") as file:
        start = file.read(25)
    is_deep_png = start.startswith(b"\x89PNG") and start[-1] > 8
    if not is_deep_png and start[:2] not in (b"II", b"MM"):  # the header alone spares opening all others
        return None
    with opened(path, frame) as image:
        if not _is_deep(image):
            return None
        # Of more than 8 bits Pillow reads no other depth than 12 that a file states exactly; 16 may hold any less.
        stated = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (12,)
        return _checked(np.asarray(image), path), 4095 if stated else None


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says that it is seen."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.filename = ""  # else Pillow, which turns these itself, would map the stored pixels at the turned size
    turn = _TURNS.get(_orientation(image))
    return image.transpose(turn) if turn is not None else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (H, W) of an opened picture as it is seen; its pixels need not be decoded."""
    lies_on_its_side = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if lies_on_its_side else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """Read the EXIF orientation of a picture, 1 to 8; TIFF files are turned by Pillow itself."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    if image.format == "PNG" and "exif" not in image.info:
        # Pillow would decode the whole picture to see whether something follows it.
        name = getattr(image, "filename", "")
        if not name or b"eXIf" not in Path(name).read_bytes():
            return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):  # damaged facts beside a picture that is whole
        return 1


def count_frames(path: Path) -> int:
    """Count the frames that a file holds; raise a `DatasetError` if its header cannot be read."""
    with readable(path), _open(path) as image:
        frames = _frames_of(image)
        if frames > path.stat().st_size // _SMALLEST_FRAME:
            raise DatasetError(f"{path}: states {frames} frames, more than it can hold; restore the original file")
        return frames


def read_format(path: Path) -> tuple[str, int]:
    """Read the format of a file, such as `PNG`, and the bits of each value from its header."""
    with readable(path), _open(path) as image:
        return "JPEG" if image.format == _PHONES else str(image.format), _BITS.get(image.mode, 8)


@contextmanager
def opened(path: Path, frame: int | None = None) -> Iterator[Image.Image]:
    """Open an image at one of its frames; errors, also of decoding it, are those of `read_raster`."""
    with readable(path), _open(path) as image:
        require_fair_size(image.width, image.height, path)
        index = frame_index(_frames_of(image), frame, path)
        if index:
            image.seek(index)
            require_fair_size(image.width, image.height, path)
        yield image


_SMALLEST_FRAME = 10  # bytes, in any format
_PHONES = "MPO"  # a JPEG that carries further pictures of the same scene, as phones make them


def _frames_of(image: Image.Image) -> int:
    """Count an open file's frames; of what a phone puts into one JPEG, the first picture is the image."""
    return 1 if image.format == _PHONES else int(getattr(image, "n_frames", 1))


def _open(path: Path) -> Image.Image:
    """Read a file's header; Pillow need not warn of its size, which is looked at next."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=_FORMATS)


_DEAD_LINK = "the file that it leads to is not here; fetch it (git-annex: `git annex get`), or copy the file itself"


@contextmanager
def readable(path: Path, *, private: bool = False) -> Iterator[None]:
    """Say in one line what is wrong where reading a file fails: a `DatasetError` takes the place of other exceptions.

    A `private` file's errors are passed on by their kind alone, as their text may quote values of the file.
    """
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # on damaged files decoders raise errors of many types
        if path.is_symlink() and not path.exists():
            raise DatasetError(f"{path} is a dead link: {_DEAD_LINK}") from error
        if isinstance(error, FileNotFoundError):
            raise DatasetError(f"{path} is missing; restore the original file") from error
        if not private:
            raise DatasetError(f"{path} cannot be decoded ({error}); restore the original file") from error
        reason = f"as DICOM ({type(error).__name__})"
        if isinstance(error, OSError):
            reason = f"({error.strerror or 'cut off or damaged'})"
        raise DatasetError(f"{path} cannot be decoded {reason}; restore the original file") from None


def require_fair_size(width: int, height: int, path: Path) -> None:
    """Raise a `DatasetError` for more pixels than `MAX_PIXELS`, before they are decoded."""
    if width * height > MAX_PIXELS:
        raise DatasetError(
            f"{path}: {width} x {height} pixels exceed the limit of {MAX_PIXELS}; shrink the image or remove it"
        )


def frame_index(frames: int, frame: int | None, path: Path) -> int:
    """Count from 0 the frame that is meant: which of several, from 1 on, or None for the only one.

    Raises:
        DatasetError: if there is no such frame, or there are several and none is named.

    >>> frame_index(20, 3, Path("clip.dcm")), frame_index(1, None, Path("still.dcm"))
    (2, 0)
    """
    if frame is None and frames > 1:
        raise DatasetError(f"{path}: holds {frames} frames; save the one to use as an image of its own")
    if frame is not None and not 1 <= frame <= frames:
        raise DatasetError(f"{path}: there is no frame {frame}; it holds {frames}, counted from 1")
    return (frame or 1) - 1


def fitting_full_scale(peak: float, *, has_fractions: bool) -> float:
    """Choose the value that is shown white: of the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value.

    Fractions of less than half of 8 bits are of no depth: their scale is [0, 1], or ends at the largest value.

    >>> [fitting_full_scale(peak, has_fractions=False) for peak in (200, 1020, 3000, 4096)]
    [255, 1023, 4095, 16383]
    >>> [fitting_full_scale(peak, has_fractions=True) for peak in (0.4, 2.6, 254.5)]
    [1.0, 2.6, 255]
    """
    if has_fractions and peak < (_FULL_SCALES[0] + 1) / 2:
        return max(1.0, peak)
    return next(scale for scale in _FULL_SCALES if peak <= scale)


def scale_to_bytes(values: NDArray[Any], path: Path, full_scale: float | None = None) -> NDArray[np.uint8]:
    """Map values from 0 to the full scale to 0 to 255; None for the one that fits these values alone.

    A `DatasetError` is raised if they are negative, too large or not finite.
    """
    values = _checked(values, path).astype(np.float64)
    if full_scale is None:
        full_scale = fitting_full_scale(float(values.max()), has_fractions=bool((values % 1).any()))
    shown: NDArray[np.uint8] = np.round(np.minimum(values, full_scale) * (255 / full_scale)).astype(np.uint8)
    return shown


def _checked(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if not np.isfinite(values).all():
        raise DatasetError(f"{path}: holds values that are no numbers (NaN or infinite); save it without them")
    if values.min() < 0 or values.max() > _FULL_SCALES[-1]:
        raise DatasetError(f"{path}: values outside 0..{_FULL_SCALES[-1]}; save it as 8 or 16 bit image")
    return values


def has_white_zero(image: Image.Image) -> bool:
    """Tell whether a file shows 0 as white: TIFF may; Pillow inverts these itself up to 8 bits, and no deeper."""
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _MINISWHITE)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _drop_alpha(image: Image.Image, path: Path, full_scale: float | None) -> NDArray[np.uint8]:
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if _is_deep(image):
        return scale_to_bytes(np.asarray(image), path, full_scale)
    if image.mode == "P":
        image = image.convert("RGBA")  # in one step to RGB, Pillow warns of transparent palettes
    return np.asarray(image.convert("RGB"))
