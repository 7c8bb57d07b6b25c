"""Masks beside their image and beside what the dataset says of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.checks.kinds import Kind
from episodes.components import count_components
from episodes.records import LABEL_VALUES, Record

TINY = 0.001  # of the image's area

Size = tuple[int, int]
Note = tuple[Kind, str]


def compare_sizes(size: Size, mask_sizes: Mapping[Path, Size]) -> Iterator[Note]:
    """Yield the masks whose size is not the image's.

    Args:
        size: (H, W) of the image.
        mask_sizes: (H, W) of each mask file.
    """
    for path, mask_size in mask_sizes.items():
        if mask_size != size:
            yield "mask of another size", f"{path.name} is {size_text(mask_size)}, the image {size_text(size)}"


def compare_label(record: Record, label_map: NDArray[np.uint8]) -> Iterator[Note]:
    """Yield what the masks show that does not fit the label, and lesions that are tiny or not in one piece.

    Args:
        record: whose label it is.
        label_map: what its masks show, (H, W); for a normal in the value of any lesion.
    """
    lesion = label_map > 0
    share = float(lesion.mean())
    if record.label == "normal":
        if share:
            yield "normal with lesion", f"labelled normal, but {_percent(share)} of the image is marked"
        return
    if not share:
        yield "empty lesion mask", f"labelled {record.label}, but no pixel is marked"
        return
    classes = {label for label, value in LABEL_VALUES.items() if value and (label_map == value).any()}
    if classes != {record.label}:
        yield "class against label", f"labelled {record.label}, but marked {' and '.join(sorted(classes))}"
    if share < TINY:
        yield "tiny lesion", f"{_percent(share)} of the image"
    parts = count_components(lesion)
    if parts > 1:
        files = f"{len(record.masks)} mask files" if len(record.masks) > 1 else "one mask file"
        yield "several lesions", f"{parts} separate parts in {files}"


def count_masks(record: Record) -> Iterator[Note]:
    """Yield that a record has several mask files."""
    if len(record.masks) > 1:
        yield "several masks", f"{len(record.masks)}: {', '.join(path.name for path in record.masks)}"


def size_text(size: Size) -> str:
    """Spell (H, W) as pictures are: width first.

    >>> size_text((606, 856))
    '856 x 606'
    """
    height, width = size
    return f"{width} x {height}"


def _percent(share: float) -> str:
    return f"{100 * share:.3f} %"
