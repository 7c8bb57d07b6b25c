"""Decode one record, and say what is wrong with its files."""

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.checks.findings import Finding
from episodes.checks.kinds import Kind
from episodes.checks.masks import Size, compare_label, compare_sizes, count_masks
from episodes.decoding import read_image, read_label_map, read_size
from episodes.duplicates import thumbnail
from episodes.errors import DatasetError
from episodes.records import Record


@dataclass(frozen=True, slots=True)
class Content:
    """What decoding a record yielded; the rest only where its image could be decoded.

    Attributes:
        record: which was decoded.
        findings: what is wrong with its files.
        size: (H, W) of the image.
        digest: of the image's pixels and size; equal for images that are the same in files that may differ.
        thumbnail: see `episodes.duplicates.thumbnail`.
    """

    record: Record
    findings: tuple[Finding, ...]
    size: Size | None = None
    digest: str = ""
    thumbnail: NDArray[np.uint8] | None = None


def inspect(record: Record) -> Content:
    """Decode the image and the masks of a record and compare them with each other and with the label."""
    try:
        image = read_image(record.image, record.frame)
    except DatasetError as error:
        return Content(record, (Finding(_damage(record.image, record.frame, error), (record.id,), str(error)),))
    height, width = image.shape
    findings = _inspect_masks(record, (height, width))
    if np.ptp(image) == 0:
        findings.append(Finding("blank image", (record.id,), f"every pixel is {image[0, 0]}"))
    return Content(
        record=record,
        findings=tuple(findings),
        size=(height, width),
        digest=sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        thumbnail=thumbnail(image),
    )


def _inspect_masks(record: Record, size: Size) -> list[Finding]:
    # A normal's binary mask decodes to nothing; without the label, what is drawn there shows.
    drawn = replace(record, label="unknown") if record.label == "normal" else record
    label_map = np.zeros(size, np.uint8)
    findings: list[Finding] = []
    mask_sizes: dict[Path, Size] = {}
    for path in record.masks:
        try:
            mask_sizes[path] = read_size(path)
            np.maximum(label_map, read_label_map(replace(drawn, masks=(path,)), size), out=label_map)
        except DatasetError as error:
            findings.append(Finding(_mask_damage(path), (record.id,), str(error)))
    notes = [*compare_sizes(size, mask_sizes), *count_masks(record)]
    if not findings:
        notes += compare_label(record, label_map)
    return findings + [Finding(kind, (record.id,), detail) for kind, detail in notes]


def _damage(path: Path, frame: int | None, error: DatasetError) -> Kind:
    """Tell a file that is no usable image from one that begins as an image and then breaks off."""
    try:
        read_size(path, frame)
    except DatasetError:
        return "unreadable" if path.exists() else "missing file"
    # Without a decoder's error behind it, the pixels are all there but of no meaning, such as negative.
    return "truncated or damaged" if error.__cause__ else "unreadable"


def _mask_damage(path: Path) -> Kind:
    """Tell a mask that cannot be decoded from one that can, but does not mean anything."""
    try:
        read_image(path)
    except DatasetError as undecoded:
        return _damage(path, None, undecoded)
    return "unknown mask colour"
