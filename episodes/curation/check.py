"""Check a dataset: read it whatever is wrong with it, decode all of it, and list what looks wrong."""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.curation.check_content import Content, Size, compare_stated_sizes, find_flags, inspect
from episodes.curation.findings import KINDS, CheckReport, Finding
from episodes.curation.near_duplicates import duplicate_groups, settle_duplicates
from episodes.datasets import find_reader, read_dataset
from episodes.datasets.files import SUFFIXES
from episodes.datasets.problems import Problem, collected_problems
from episodes.parallel import Progress, in_threads
from episodes.records import LABEL_VALUES, Record


def count_labels(records: Sequence[Record]) -> dict[str, int]:
    """Count `images`, `patients`, and the images of each label."""
    labels = Counter(record.label for record in records)
    return {
        "images": len(records),
        "patients": len({record.patient_id for record in records}),
        **{label: labels[label] for label in LABEL_VALUES},
    }


def count_by_patient(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Count each patient's images by label; nothing where the dataset names no patients."""
    if not names_patients(records):
        return {}
    counts: dict[str, Counter[str]] = {}
    for record in sorted(records, key=lambda record: record.patient):
        counts.setdefault(record.patient, Counter())[record.label] += 1
    return {
        patient: {label: found[label] for label in LABEL_VALUES if found[label]} for patient, found in counts.items()
    }


def names_patients(records: Sequence[Record]) -> bool:
    """Whether a dataset says whose images they are: where it does not, each is a patient of its own name."""
    return any(record.patient != record.stem for record in records)


def with_total(published: Mapping[str, int]) -> dict[str, int]:
    """Add the number of images to the published numbers of each label.

    >>> with_total({"benign": 110, "malignant": 53, "patients": 160})
    {'images': 163, 'benign': 110, 'malignant': 53, 'patients': 160}
    """
    labels = [published[label] for label in LABEL_VALUES if label in published]
    return {**({"images": sum(labels)} if labels else {}), **published}


def find_extra_files(records: Sequence[Record], root: Path, known: Collection[Path]) -> Iterator[Finding]:
    """Find the image files below a folder, DICOM included, that no record uses.

    Args:
        records: the dataset.
        root: its folder.
        known: files, and folders with all that is in them, of which something has been said already.
    """
    used = {path.resolve() for record in records for path in (record.image, *record.masks)}
    spoken_of = {path.resolve() for path in known}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        file = path.resolve()
        if file not in used and spoken_of.isdisjoint((file, *file.parents)):
            yield Finding("extra file", (path.relative_to(root).as_posix(),), "no record uses it")


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


def check_dataset(name: str, root: Path, progress: Progress | None = None) -> CheckReport:
    """Read a dataset and list all that looks wrong, what its reader would stop at included.

    A reader's module may hold `PUBLISHED`, the numbers of images by label and of patients in the dataset's paper, and
    `stated_sizes(root)`, the sizes (H, W) by stem that the dataset's table states: both are compared with what is
    there.

    Args:
        name: of a reader, see `episodes.datasets.find_reader`.
        root: the dataset's folder.
        progress: called after each record with the number done and the number in all.

    Raises:
        DatasetError: if there is nothing in the layout that the reader expects.
    """
    with collected_problems() as problems:
        records = read_dataset(name, root)
    module = sys.modules[find_reader(name).__module__]
    with collected_problems():  # once is enough
        stated_sizes = getattr(module, "stated_sizes", _no_sizes)(root)
    report = check_records(records, root, problems, stated_sizes, progress)
    return replace(report, dataset=report.dataset or name, published=with_total(getattr(module, "PUBLISHED", {})))


def check_records(
    records: Sequence[Record],
    root: Path,
    problems: Sequence[Problem] = (),
    stated_sizes: Mapping[str, Size] | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Decode every image and mask of records and list what looks wrong.

    Args:
        records: the dataset as its reader gives it.
        root: its folder, searched for image files that no record uses.
        problems: what its reader found wrong.
        stated_sizes: (H, W) by the stem of the image, as the dataset states them.
        progress: called after each record with the number done and the number in all.
    """
    contents = list(in_threads(inspect, records, progress))
    findings = [
        *(_finding(problem, root) for problem in problems),
        *(finding for content in contents for finding in content.findings),
        *find_extra_files(records, root, [problem.subject for problem in problems]),
        *compare_stated_sizes(contents, stated_sizes or {}),
        *find_flags(records),
        *find_exact_duplicates(contents),
        *find_near_duplicates(contents),
    ]
    places = {kind: place for place, kind in enumerate(KINDS)}
    return CheckReport(
        dataset=", ".join(sorted({record.dataset for record in records})),
        root=str(root),
        counts=count_labels(records),
        patients=count_by_patient(records),
        findings=tuple(
            replace(finding, detail=_within(root, finding.detail))
            for finding in sorted(findings, key=lambda finding: places[finding.kind])
        ),
    )


def _finding(problem: Problem, root: Path) -> Finding:
    subject = problem.subject
    inside = subject.relative_to(root) if subject.is_relative_to(root) else subject
    return Finding(problem.kind, (inside.as_posix(),), problem.message)


def _within(root: Path, text: str) -> str:
    """Take the root from the paths in a text: it is said once."""
    return text.replace(f"{root}{os.sep}", "")


def _no_sizes(root: Path) -> Mapping[str, Size]:  # noqa: ARG001 - the form of a reader's stated_sizes
    return {}
