"""Check a dataset: read it whatever is wrong with it, decode all of it, and list what looks wrong."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from episodes.checks.content import inspect
from episodes.checks.counts import count_by_patient, count_labels, with_total
from episodes.checks.facts import compare_stated_sizes, find_flags
from episodes.checks.files import find_extra_files
from episodes.checks.findings import CheckReport, Finding
from episodes.checks.kinds import KINDS
from episodes.checks.masks import Size
from episodes.checks.repeats import find_exact_duplicates, find_near_duplicates
from episodes.datasets import find_reader, read_dataset
from episodes.datasets.complaints import Complaint, collected_complaints
from episodes.parallel import Progress, in_threads
from episodes.records import Record


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
    with collected_complaints() as complaints:
        records = read_dataset(name, root)
    module = sys.modules[find_reader(name).__module__]
    with collected_complaints():  # once is enough
        stated_sizes = getattr(module, "stated_sizes", _no_sizes)(root)
    report = check_records(records, root, complaints, stated_sizes, progress)
    return replace(report, dataset=report.dataset or name, published=with_total(getattr(module, "PUBLISHED", {})))


def check_records(
    records: Sequence[Record],
    root: Path,
    complaints: Sequence[Complaint] = (),
    stated_sizes: Mapping[str, Size] | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Decode every image and mask of records and list what looks wrong.

    Args:
        records: the dataset as its reader gives it.
        root: its folder, searched for image files that no record uses.
        complaints: what its reader found wrong.
        stated_sizes: (H, W) by the stem of the image, as the dataset states them.
        progress: called after each record with the number done and the number in all.
    """
    contents = list(in_threads(inspect, records, progress))
    findings = [
        *(_finding(complaint, root) for complaint in complaints),
        *(finding for content in contents for finding in content.findings),
        *find_extra_files(records, root, [complaint.subject for complaint in complaints]),
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


def _finding(complaint: Complaint, root: Path) -> Finding:
    subject = complaint.subject
    inside = subject.relative_to(root) if subject.is_relative_to(root) else subject
    return Finding(complaint.kind, (inside.as_posix(),), complaint.message)


def _within(root: Path, text: str) -> str:
    """Take the root from the paths in a text: it is said once."""
    return text.replace(f"{root}{os.sep}", "")


def _no_sizes(root: Path) -> Mapping[str, Size]:  # noqa: ARG001 - the form of a reader's stated_sizes
    return {}
