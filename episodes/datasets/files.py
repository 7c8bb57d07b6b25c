"""The files of a dataset: images, masks and folders by name."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from episodes.datasets.complaints import ComplaintKind, complain, note
from episodes.errors import DatasetError
from episodes.images.dicom_header import SUFFIXES as DICOM_SUFFIXES
from episodes.images.dicom_header import is_dicom
from episodes.records import frame_stem

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

_COPY = re.compile(r"(?P<stem>.+) \(\d+\)")


def leave_out(file: Path, reason: str, kind: ComplaintKind = "extra file") -> None:
    """Tell the user that a reader leaves out a file, and why."""
    note(kind, file, f"{file}: left out: {reason}")


def find_folders(root: Path, *layouts: Sequence[str]) -> list[Path]:
    """Find the sub-folders that make up a layout; upper and lower case are the same.

    Args:
        root: the dataset's folder.
        layouts: the names of the sub-folders of each layout in circulation.

    Returns:
        The folders of the first layout that is complete, in the order of its names.

    Raises:
        DatasetError: if none is; the message says so where one lies a level above or below.
    """
    found = sub_folders(root)
    for names in layouts:
        if all(name.lower() in found for name in names):
            return [found[name.lower()] for name in names]
    expected = " or ".join(", ".join(f"{name}/" for name in names) for names in layouts)
    message = f"{root} lacks the folders {expected}"
    for other in (*found.values(), root.resolve().parent):
        names_there = sub_folders(other).keys() if os.access(other, os.R_OK) else set()
        if any(names_there >= {name.lower() for name in names} for names in layouts):
            raise DatasetError(f"{message}; {other} holds them: give that folder")
    raise DatasetError(f"{message}; give the folder that holds them")


def sub_folders(folder: Path) -> dict[str, Path]:
    """Key the folders inside a folder by their name in lower case."""
    return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder, sorted by name.

    Hidden ones are left out: archives made on a Mac carry a `._a.png` beside each `a.png`.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    for file in files:
        if file.name.startswith("."):
            leave_out(file, "a hidden file")
    return [file for file in files if not file.name.startswith(".")]


def original_of(file: Path, stems: Collection[str]) -> str | None:
    """The stem that a file such as `SIBA_001 (1).png` is a stray copy of; None if it is none.

    Browsers and file managers name a second download so. A name alone is no proof: the original must be there.

    Args:
        file: what may be a copy.
        stems: of the files beside it.

    >>> original_of(Path("SIBA_001 (1).png"), {"SIBA_001"}), original_of(Path("benign (1).png"), {"malignant"})
    ('SIBA_001', None)
    """
    copy = _COPY.fullmatch(file.stem)
    return copy["stem"] if copy and copy["stem"] in stems else None


def leave_out_copy(file: Path, original: str) -> None:
    """List a stray copy of the file with this stem."""
    leave_out(file, f"a stray copy of {original}{file.suffix}", "stray copy")


def without_copies(files: Sequence[Path]) -> list[Path]:
    """Drop the stray copies among the files of one folder, and list them."""
    stems = {file.stem for file in files}
    kept = []
    for file in files:
        if original := original_of(file, stems):
            leave_out_copy(file, original)
        else:
            kept.append(file)
    return kept


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by their stem; of two that differ in their suffix alone, which is a complaint, the first."""
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            message = f"{file}: {other.name} differs in the suffix alone; remove one of the two"
            complain("name taken twice", file, message)
    return stems


def find_mask(masks: Mapping[str, Path], stem: str, image: Path) -> Path | None:
    """Look up the mask of an image by the mask's stem; None, and a complaint, if there is none."""
    mask = masks.get(stem)
    if mask is None:
        complain_of_missing_mask(image, stem)
    return mask


def complain_of_missing_mask(image: Path, stem: str) -> None:
    """Say that an image lacks the mask of this stem."""
    message = f"{image}: its mask {stem}{image.suffix} is missing; restore the mask or remove the image"
    complain("missing file", image, message)


def leave_out_unused_masks(masks: Mapping[str, Path], used: Collection[str]) -> None:
    """List the masks, keyed by stem, that belong to no image."""
    for stem in sorted(masks.keys() - set(used)):
        leave_out(masks[stem], "a mask without its image")


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
