"""Limits of what a DICOM header may ask for, checked before memory or time is spent on it."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from episodes.errors import DatasetError

MAX_FRAMES = 100_000  # an hour at 30 frames a second

# Far above any header: those of scanners hold some hundred elements in some ten thousand bytes.
_MOST_READS = 50_000  # one or more for every element and item
_LONGEST_VALUE = 1 << 20  # bytes, of a table of where frames begin; pixels are not read here
_LONGEST_REGIONS = 1 << 17  # bytes of a sequence, whose items take longer to take apart than to read
_MOST_BYTES = 64 << 20

# Numbers that describe a picture, 0 aside, are of this size; beyond it sums and products of them overflow.
_LEAST, _MOST = 1e-9, 1e9
NUMBERS = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
    *("PixelSpacing", "ImagerPixelSpacing"),
)


class LimitedHeader:
    """A file whose header is read, until that takes more than any scanner's does: then a `DatasetError`."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._reads = self._bytes = 0
        self._exceeded = False
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes, or fewer at the end of the file; raise as `require_fair` does."""
        self._reads += 1
        content = self._file.read(min(size, _LONGEST_VALUE + 1) if size >= 0 else _LONGEST_VALUE + 1)
        self._bytes += len(content)
        self._exceeded |= self._reads > _MOST_READS or len(content) > _LONGEST_VALUE or self._bytes > _MOST_BYTES
        self.require_fair()
        return content

    def require_fair(self) -> None:
        """Raise a `DatasetError` if more was read than any header holds: again, as pydicom takes it for the end."""
        if self._exceeded:
            raise _too_large(self._path)


def _too_large(path: Path) -> DatasetError:
    return DatasetError(f"{path}: its header holds more than any scanner writes; export the file again")


def require_few_regions(dataset: Any, path: Path) -> None:
    """Raise a `DatasetError` where the sequence of regions is too long, before it is taken apart."""
    element = dataset.get_item("SequenceOfUltrasoundRegions")
    if len(getattr(element, "value", None) or b"") > _LONGEST_REGIONS:
        raise _too_large(path)


def require_fair_numbers(values: Iterable[Any], keyword: str, path: Path) -> None:
    """Raise a `DatasetError` for numbers that no picture has, such as 1e308 or NaN: no grey values come of them."""
    for number in map(float, values):
        if number != 0 and not _LEAST <= abs(number) <= _MOST:
            raise DatasetError(
                f"{path}: {keyword} is {number:g}; expected 0, or a number of {_LEAST:g} to {_MOST:g} in size; export"
                " the file again"
            )


def require_few_frames(stated: int, path: Path) -> None:
    """Raise a `DatasetError` for more frames than `MAX_FRAMES`."""
    if stated > MAX_FRAMES:
        raise DatasetError(f"{path}: {stated} frames exceed the limit of {MAX_FRAMES}; export fewer")


def require_stated_frames(file: BinaryIO, stated: int, path: Path) -> None:
    """Raise a `DatasetError` where compressed pixels, at which the file stands, are of fewer pieces than frames."""
    status = path.stat()
    found = _count_pieces(path, file.tell(), status.st_size, status.st_mtime_ns)
    if stated > found:
        raise DatasetError(f"{path}: states {stated} frames, but holds {found}; restore the original file")


_PIXELS_HEADER = 12  # bytes before the first item of compressed pixels: tag, kind, length


@lru_cache(maxsize=8)  # frames of a clip are read one by one, and each asks
def _count_pieces(path: Path, start: int, size: int, modified: int) -> int:  # noqa: ARG001 - the file as it is
    """Count the items of compressed pixels but for the first, which is a table; a frame has one or more."""
    from pydicom.encaps import parse_fragments

    with path.open("rb") as file:
        file.seek(start + _PIXELS_HEADER)
        return parse_fragments(file)[0] - 1
