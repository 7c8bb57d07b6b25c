"""The files of a user's own folder that may hold pictures, DICOM included."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from episodes.datasets.complaints import complain
from episodes.datasets.layout import IMAGE_SUFFIXES, leave_out
from episodes.dicom import SUFFIXES as DICOM_SUFFIXES
from episodes.dicom import is_dicom
from episodes.records import frame_stem

CLIP_SUFFIXES = frozenset({".tif", ".tiff"}) | DICOM_SUFFIXES
SUFFIXES = IMAGE_SUFFIXES | DICOM_SUFFIXES


def picture_files(folder: Path) -> list[Path]:
    """List the pictures of a folder, sorted by name; hidden ones are left out, see `layout.image_files`."""
    pictures = []
    for file in sorted(folder.iterdir()):
        is_hidden = file.name.startswith(".")
        if is_hidden and file.suffix.lower() in SUFFIXES:
            leave_out(file, "a hidden file")
        elif not is_hidden and file.is_file() and is_picture(file):
            pictures.append(file)
    return pictures


def is_picture(file: Path) -> bool:
    """Whether a file may hold a picture: by its suffix or, without one, because it is DICOM."""
    return file.suffix.lower() in IMAGE_SUFFIXES or is_dicom(file)


def may_be_clip(file: Path) -> bool:
    """Whether a picture's file may hold several frames: DICOM and TIFF may."""
    return file.suffix.lower() in CLIP_SUFFIXES or file.suffix.lower() not in IMAGE_SUFFIXES


def by_picture_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by their stem; of two that differ in their suffix alone, which is a complaint, the first."""
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(frame_stem(file, None), file)
        if other != file:
            message = f"{file}: {other.name} differs in the suffix alone; remove one of the two"
            complain("name taken twice", file, message)
    return stems


def named_stem(name: str) -> str:
    """The stem of a picture that a table names with or without its folder and suffix.

    >>> named_stem("images/scan.01.PNG"), named_stem("scan.01"), named_stem("clip.dcm"), named_stem("clip-0003")
    ('scan.01', 'scan.01', 'clip', 'clip-0003')
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
