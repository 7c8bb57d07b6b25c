"""Files that no record uses."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from episodes.checks.findings import Finding
from episodes.datasets.pictures import SUFFIXES
from episodes.records import Record


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
