"""What a check finds by decoding images and masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.curation.findings import Finding, Kind
from episodes.curation.near_duplicates import thumbnail
from episodes.errors import DatasetError
from episodes.images.decoding import read_image, read_label_map, read_size
from episodes.images.regions import count_components
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


@dataclass(frozen=True, slots=True)
class Content:
    """What decoding a record yielded; the rest only where its image could be decoded.

    Attributes:
        record: which was decoded.
        findings: what is wrong with its files.
        size: (H, W) of the image.
        digest: of the image's pixels and size; equal for images that are the same in files that may differ.
        thumbnail: see `episodes.curation.near_duplicates.thumbnail`.
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


# Columns of tables, as `Record.extra` holds them.
_FLAGS: Mapping[str, Kind] = {
    "Doppler": "Doppler overlay",
    "Marks": "marks on image",
    "Combined": "combined image",
}
# Pixels by which the shorter side of an image may differ after scaling: half of one is rounding.
_ROUNDING = 0.6


def find_flags(records: Sequence[Record]) -> Iterator[Finding]:
    """Find the images on which, as the dataset states, more than tissue is to be seen."""
    for record in records:
        for column, kind in _FLAGS.items():
            if record.extra.get(column, "").lower() == "yes":
                yield Finding(kind, (record.id,), f"{column}: {record.extra[column]}")


def compare_stated_sizes(contents: Sequence[Content], stated: Mapping[str, Size]) -> Iterator[Finding]:
    """Find images whose size is not what the dataset's table says.

    Of copies at another scale only those are wrong that have another aspect ratio.

    Args:
        contents: the decoded images.
        stated: (H, W) by the stem of the image.
    """
    for content in contents:
        size, said = content.size, stated.get(content.record.stem)
        if size is None or said is None or size == said:
            continue
        kind: Kind = "scaled copy" if _is_scaled(size, said) else "size against table"
        yield Finding(kind, (content.record.id,), f"{size_text(size)}, but {size_text(said)} in the table")


def _is_scaled(size: Size, said: Size) -> bool:
    """Whether both sides were scaled alike.

    >>> _is_scaled((227, 320), (606, 856)), _is_scaled((252, 320), (606, 856))
    (True, False)
    """
    scale = max(size) / max(said)
    return scale != 1 and all(abs(here - there * scale) <= _ROUNDING for here, there in zip(size, said, strict=True))
