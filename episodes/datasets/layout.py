"""What every reader does with folders and file names: find them, list images, and say what is left out."""

import logging
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from episodes.errors import DatasetError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

log = logging.getLogger("episodes.datasets")


def leave_out(file: Path, reason: str) -> None:
    """Tell the user that a reader leaves out a file, and why."""
    log.warning("%s: left out: %s", file, reason)


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


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by their stem.

    Raises:
        DatasetError: if two files differ in their suffix alone.
    """
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            other = stems[file.stem].name
            raise DatasetError(f"{file}: {other} differs in the suffix alone; remove one of the two")
        stems[file.stem] = file
    return stems


def find_mask(masks: Mapping[str, Path], stem: str, image: Path) -> Path:
    """Look up the mask of an image by the mask's stem.

    Raises:
        DatasetError: if there is none.
    """
    if stem not in masks:
        raise DatasetError(f"{image}: its mask {stem}{image.suffix} is missing; restore the mask or remove the image")
    return masks[stem]


def leave_out_unused_masks(masks: Mapping[str, Path], used: Collection[str]) -> None:
    """List the masks, keyed by stem, that belong to no image."""
    for stem in sorted(masks.keys() - set(used)):
        leave_out(masks[stem], "a mask without its image")
