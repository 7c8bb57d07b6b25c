"""Image files that Pillow decodes, such as PNG, JPEG and TIFF. One frame at a time, as bytes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from episodes.errors import DatasetError

# Far above any ultrasound frame, and below the size at which Pillow itself starts to warn.
MAX_PIXELS = 64_000_000

_AVIF = bool(features.check("avif"))  # not every build of Pillow has it
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", *(["AVIF"] if _AVIF else []))
CLIP_SUFFIXES = frozenset({".tif", ".tiff", ".gif", ".webp", *([".avif"] if _AVIF else [])})
"""Of files that may hold several frames."""
SUFFIXES = CLIP_SUFFIXES | {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp"}
_BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I": 32, "F": 32}  # all other modes have 8
# What a file of more than 8 bits may use as its full scale; scanners often export 12 bits in 16.
_FULL_SCALES = (255, 4095, 65535)


def read_raster(path: Path, frame: int | None = None) -> NDArray[np.uint8]:
    """Decode a frame, counted from 1, to grey values (H, W) or colours (H, W, 3); alpha is dropped.

    Raises:
        DatasetError: if the file is missing, no image, damaged or larger than `MAX_PIXELS`, or there is no such
            frame.
    """
    with opened(path, frame) as image:
        return _drop_alpha(image, path)


def count_frames(path: Path) -> int:
    """Count the frames that a file holds.

    Raises:
        DatasetError: if its header cannot be read.
    """
    with readable(path), _open(path) as image:
        return _frames_of(image)


def read_format(path: Path) -> tuple[str, int]:
    """Read the format of a file, such as `PNG`, and the bits of each of its values from its header.

    Raises:
        DatasetError: if the header cannot be read.
    """
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
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DatasetError(f"{path} is a dead link: {_DEAD_LINK}") from error
        raise DatasetError(f"{path} is missing; restore the original file") from error
    except Exception as error:  # on damaged files decoders raise errors of many types
        if not private:
            raise DatasetError(f"{path} cannot be decoded ({error}); restore the original file") from error
        reason = f"as DICOM ({type(error).__name__})"
        if isinstance(error, OSError):
            reason = f"({error.strerror or 'cut off or damaged'})"
        raise DatasetError(f"{path} cannot be decoded {reason}; restore the original file") from None


def require_fair_size(width: int, height: int, path: Path) -> None:
    """Refuse more than `MAX_PIXELS`, before they are decoded.

    Raises:
        DatasetError: which says how many there are.
    """
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


def scale_to_bytes(values: NDArray[np.float64], path: Path) -> NDArray[np.uint8]:
    """Map values to 0 to 255: from the smallest of 8, 12 and 16 bits that holds them, fractions from [0, 1].

    Raises:
        DatasetError: if they are negative, too large or not finite.
    """
    peak = values.max()
    if not (np.isfinite(values).all() and values.min() >= 0 and peak <= _FULL_SCALES[-1]):
        raise DatasetError(f"{path}: values outside 0..{_FULL_SCALES[-1]}; save it as 8 or 16 bit image")
    has_fractions = bool((values % 1).any())
    full_scale = 1 if has_fractions and peak <= 1 else next(s for s in _FULL_SCALES if peak <= s)
    return np.round(values * (255 / full_scale)).astype(np.uint8)


def _drop_alpha(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return scale_to_bytes(np.asarray(image, np.float64), path)
    if image.mode == "P":
        image = image.convert("RGBA")  # in one step to RGB, Pillow warns of transparent palettes
    return np.asarray(image.convert("RGB"))
