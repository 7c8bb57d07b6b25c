"""Grey scales of images of more than 8 bits: one for all that belong together, so that a dim one stays dim."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from episodes.errors import DatasetError
from episodes.images.dicom_header import is_dicom
from episodes.images.rasters import fitting_full_scale, read_deep
from episodes.parallel import in_threads
from episodes.records import Record

Picture = tuple[Path, int | None]
"""A file, and which of its frames from 1 on; None if it holds a single picture."""


@dataclass(frozen=True, slots=True)
class _Range:
    """The values of one picture of more than 8 bits."""

    peak: float
    is_float: bool
    has_fractions: bool
    stated: float | None  # the full scale that its file states


def full_scales(pictures: Sequence[Picture]) -> list[float | None]:
    """Choose which value of each picture is shown white, 0 being black: one for all integers, one for all floats.

    A file's own statement comes first; where there is none, it is what `rasters.fitting_full_scale` makes of the
    largest value of all. None is for what has no scale to choose: pictures of at most 8 bits, DICOM, which states its
    bits, and what cannot be read, as is found out where it is decoded.
    """
    found = list(in_threads(_measure, pictures))
    of_group: dict[bool, float] = {}
    for is_float in (False, True):
        group = [one for one in found if one and one.is_float == is_float and one.stated is None]
        if group:
            peak = max(one.peak for one in group)
            of_group[is_float] = fitting_full_scale(peak, has_fractions=any(one.has_fractions for one in group))
    return [None if one is None else one.stated or of_group[one.is_float] for one in found]


def _measure(picture: Picture) -> _Range | None:
    path, frame = picture
    try:
        deep = None if is_dicom(path) else read_deep(path, frame)
    except (DatasetError, OSError):
        return None
    if deep is None:
        return None
    values, stated = deep
    is_float = values.dtype.kind == "f"
    return _Range(float(values.max()), is_float, is_float and bool((values % 1).any()), stated)


def with_full_scales(records: Sequence[Record]) -> list[Record]:
    """Give each record the full scale of its image, one for all of them, unless its reader has said it already."""
    scales = full_scales([(record.image, record.frame) for record in records])
    return [
        record if scale is None or record.full_scale is not None else replace(record, full_scale=scale)
        for record, scale in zip(records, scales, strict=True)
    ]


def describe_full_scale(scale: float) -> str:
    """Say which values are shown how.

    >>> describe_full_scale(4095), describe_full_scale(2.6)
    ('0 to 4095 is shown black to white (12 bits)', '0 to 2.6 is shown black to white')
    """
    bits = int(scale).bit_length()
    depth = f" ({bits} bits)" if bits >= 8 and scale == 2**bits - 1 else ""
    return f"0 to {scale:g} is shown black to white{depth}"


def describe_full_scales(scales: Iterable[float | None]) -> list[str]:
    """Say in lines how many images of more than 8 bits there are of each scale; none where there are no such images.

    >>> describe_full_scales([None, 1023, 1023])
    ['2 images of more than 8 bits: 0 to 1023 is shown black to white (10 bits)']
    """
    known = [scale for scale in scales if scale is not None]
    return [
        f"{known.count(scale)} image{'s' if known.count(scale) > 1 else ''} of more than 8 bits:"
        f" {describe_full_scale(scale)}"
        for scale in sorted(set(known))
    ]
