"""Images that show the same: in equal pixels, nearly, under different labels, or of patients under two names."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from episodes.checks.content import Content
from episodes.checks.counts import names_patients
from episodes.checks.findings import Finding
from episodes.duplicates import duplicate_groups
from episodes.policies.near_duplicates import settle_duplicates
from episodes.records import Record


def find_exact_duplicates(contents: Sequence[Content]) -> Iterator[Finding]:
    """Find images of equal size and pixels, and say whether the files are equal as well."""
    same: dict[str, list[Record]] = defaultdict(list)
    for content in contents:
        if content.digest:
            same[content.digest].append(content.record)
    for records in same.values():
        if len(records) > 1:
            ids = tuple(record.id for record in records)
            yield Finding("exact duplicates", ids, f"the same pixels in {_files(records)}")


def _files(records: Sequence[Record]) -> str:
    paths = {record.image for record in records}
    if len(paths) == 1:
        return "frames of one file"
    first, *others = sorted(paths)
    content = first.read_bytes()
    return "byte-identical files" if all(other.read_bytes() == content for other in others) else "files that differ"


def find_near_duplicates(contents: Sequence[Content]) -> Iterator[Finding]:
    """Find groups of near-duplicates, and say where their labels contradict each other or their patients differ."""
    readable = [(content.record, content.thumbnail) for content in contents if content.thumbnail is not None]
    if not readable:
        return
    thumbnails = np.stack([small for _, small in readable])
    knows_patients = names_patients([record for record, _ in readable])
    for group in duplicate_groups(thumbnails):
        members = [readable[index][0] for index in group]
        ids = tuple(record.id for record in members)
        patients = sorted({record.patient for record in members})
        of_one = ", of one patient" if len(patients) == 1 else ""
        yield Finding("near-duplicates", ids, _likeness(thumbnails[group]) + of_one)
        if settle_duplicates(members, [range(len(members))], "group").dropped:
            yield Finding("conflicting labels", ids, _labels(members))
        if len(patients) > 1 and knows_patients:
            yield Finding("patient under two names", ids, ", ".join(patients))


def _likeness(thumbnails: NDArray[np.uint8]) -> str:
    least = np.corrcoef(thumbnails.reshape(len(thumbnails), -1)).min()
    return f"correlation {least:.3f}" if len(thumbnails) == 2 else f"correlation {least:.3f} of the least alike two"


def _labels(records: Sequence[Record]) -> str:
    by_label: dict[str, list[str]] = defaultdict(list)
    for record in records:
        by_label[record.label].append(record.stem)
    return "; ".join(f"{label}: {', '.join(stems)}" for label, stems in by_label.items())
