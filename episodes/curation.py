"""The integrity of a dataset on disk: everything is decoded once, and whatever looks wrong is listed.

What to do about near-duplicates is in `episodes.duplicates`.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from episodes.datasets import READERS
from episodes.datasets.layout import IMAGE_SUFFIXES
from episodes.decoding import read_image, read_label_map, read_size
from episodes.duplicates import duplicate_groups, thumbnail
from episodes.errors import DatasetError
from episodes.records import LABEL_VALUES, Record

TINY = 0.001  # of the image's area

Kind = Literal[
    "unreadable",
    "unused file",
    "mask of another size",
    "lesion without mask",
    "normal with lesion",
    "class against label",
    "tiny lesion",
    "several lesions",
    "exact duplicates",
    "near-duplicates",
    "duplicates of different labels",
    "duplicates of different patients",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that looks wrong or is worth knowing.

    Attributes:
        kind: one of `KINDS`.
        subjects: ids of the records concerned, or the path of an unused file within the root.
        detail: what was found, and what is done about it.
    """

    kind: Kind
    subjects: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found; `dataclasses.asdict` makes it plain data for JSON.

    Attributes:
        dataset: name of the dataset, or names joined by commas.
        root: its folder.
        counts: number of images by label, and of `patients` and `images`.
        published: the same numbers as the dataset's paper gives them, as far as it does.
        findings: sorted by kind in the order of `KINDS`.
    """

    dataset: str
    root: str
    counts: Mapping[str, int]
    published: Mapping[str, int]
    findings: tuple[Finding, ...]

    def of_kind(self, kind: Kind) -> list[Finding]:
        """List the findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]


@dataclass(frozen=True, slots=True)
class _Content:
    """What decoding one record yielded."""

    findings: tuple[Finding, ...]
    digest: str = ""
    thumbnail: NDArray[np.uint8] | None = None


def check(records: Sequence[Record], root: Path, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Decode every image and mask of a dataset and list what looks wrong.

    Args:
        records: the dataset as its reader gives it.
        root: its folder, searched for image files that no record uses.
        progress: called after each record with the number done and the number in all.
    """
    contents: list[_Content] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter lock
        for content in pool.map(_inspect, records):
            contents.append(content)
            if progress:
                progress(len(contents), len(records))
    findings = [finding for content in contents for finding in content.findings]
    findings += _find_unused_files(records, root)
    findings += _find_exact_duplicates(records, contents)
    findings += _find_near_duplicates(records, contents)
    names = sorted({record.dataset for record in records})
    counts = Counter(record.label for record in records)
    return CheckReport(
        dataset=", ".join(names),
        root=str(root),
        counts={
            "images": len(records),
            "patients": len({record.patient_id for record in records}),
            **{label: counts[label] for label in LABEL_VALUES},
        },
        published=_published(names[0]) if len(names) == 1 else {},
        findings=tuple(sorted(findings, key=lambda finding: KINDS.index(finding.kind))),
    )


def _published(dataset: str) -> Mapping[str, int]:
    if dataset not in READERS:
        return {}
    module = import_module(READERS[dataset].partition(":")[0])
    return dict(getattr(module, "PUBLISHED", {}))


def _inspect(record: Record) -> _Content:
    # A normal's binary mask decodes to nothing; without the label, what is drawn there shows.
    drawn = replace(record, label="unknown") if record.label == "normal" else record
    try:
        image = read_image(record.image)
        height, width = image.shape
        label_map = read_label_map(drawn, (height, width))
        mask_sizes = {path: read_size(path) for path in record.masks}
    except DatasetError as error:
        return _Content((Finding("unreadable", (record.id,), str(error)),))
    notes = [*_compare_sizes((height, width), mask_sizes), *_compare_label(record, label_map)]
    return _Content(
        findings=tuple(Finding(kind, (record.id,), detail) for kind, detail in notes),
        digest=sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        thumbnail=thumbnail(image),
    )


def _compare_sizes(size: tuple[int, int], mask_sizes: Mapping[Path, tuple[int, int]]) -> Iterator[tuple[Kind, str]]:
    for path, mask_size in mask_sizes.items():
        if mask_size != size:
            sizes = [f"{width} x {height}" for height, width in (mask_size, size)]
            yield (
                "mask of another size",
                f"{path.name} is {sizes[0]}, the image {sizes[1]}: resized to it (nearest), see that it fits",
            )


def _compare_label(record: Record, label_map: NDArray[np.uint8]) -> Iterator[tuple[Kind, str]]:
    lesion = label_map > 0
    share = float(lesion.mean())
    if record.label == "normal":
        if share:
            yield "normal with lesion", f"labelled normal, but {100 * share:.3f} % of the image is marked"
        return
    if not share:
        yield "lesion without mask", f"labelled {record.label}, but no pixel is marked"
        return
    classes = {label for label, value in LABEL_VALUES.items() if value and (label_map == value).any()}
    if classes != {record.label}:
        yield "class against label", f"labelled {record.label}, but marked {' and '.join(sorted(classes))}"
    if share < TINY:
        yield "tiny lesion", f"{100 * share:.3f} % of the image"
    _, parts = ndimage.label(lesion, structure=np.ones((3, 3)))
    if parts > 1:
        yield "several lesions", f"{parts} separate parts in {len(record.masks)} mask file(s)"


def _find_unused_files(records: Sequence[Record], root: Path) -> Iterator[Finding]:
    used = {path.resolve() for record in records for path in (record.image, *record.masks)}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and path.resolve() not in used:
            yield Finding("unused file", (path.relative_to(root).as_posix(),), "no record uses it")


def _find_exact_duplicates(records: Sequence[Record], contents: Sequence[_Content]) -> Iterator[Finding]:
    same: dict[str, list[str]] = defaultdict(list)
    for record, content in zip(records, contents, strict=True):
        if content.digest:
            same[content.digest].append(record.id)
    for ids in same.values():
        if len(ids) > 1:
            yield Finding("exact duplicates", tuple(ids), "the same pixels")


def _find_near_duplicates(records: Sequence[Record], contents: Sequence[_Content]) -> Iterator[Finding]:
    readable = [
        (record, content.thumbnail)
        for record, content in zip(records, contents, strict=True)
        if content.thumbnail is not None
    ]
    if not readable:
        return
    for group in duplicate_groups(np.stack([small for _, small in readable])):
        members = [readable[index][0] for index in group]
        ids = tuple(record.id for record in members)
        labels = sorted({record.label for record in members})
        patients = sorted({record.patient for record in members})
        yield Finding("near-duplicates", ids, "thumbnails correlate above 0.99")
        if len(labels) > 1:
            yield Finding("duplicates of different labels", ids, ", ".join(labels))
        knows_patients = any(record.patient != record.image.stem for record in members)
        if len(patients) > 1 and knows_patients:
            yield Finding("duplicates of different patients", ids, ", ".join(patients))
