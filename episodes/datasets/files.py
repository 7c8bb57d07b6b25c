"""The files of a dataset: images, masks and folders by name."""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from episodes.datasets.problems import LeftOut, report_left_out, report_problem
from episodes.errors import DatasetError
from episodes.images.dicom_header import SUFFIXES as DICOM_SUFFIXES
from episodes.images.dicom_header import is_dicom
from episodes.images.rasters import CLIP_SUFFIXES
from episodes.images.rasters import SUFFIXES as IMAGE_SUFFIXES
from episodes.names import composed, printable
from episodes.records import Label, frame_stem

SUFFIXES = IMAGE_SUFFIXES | DICOM_SUFFIXES
READ_FORMATS = "PNG, JPEG, BMP, TIFF, GIF, WebP or DICOM files"

# Pictures in formats that are not read here, by the end of a name: volumes, arrays, films, phones' and other images.
_UNREAD_FORMATS: Mapping[str, str] = {
    **dict.fromkeys((".nii", ".nii.gz", ".hdr"), "NIfTI"),
    **dict.fromkeys((".nrrd", ".nhdr", ".seg.nrrd"), "NRRD"),
    **dict.fromkeys((".mha", ".mhd"), "MetaImage"),
    **dict.fromkeys((".npy", ".npz", ".mat", ".h5", ".hdf5"), "an array"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".wmv", ".mkv", ".m4v", ".webm", ".mpg", ".mpeg"), "a film"),
    **dict.fromkeys((".heic", ".heif"), "HEIF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jxl", ".jls"), "a rarer kind of JPEG"),
    **dict.fromkeys(
        (".pgm", ".ppm", ".pbm", ".pnm", ".tga", ".svg", ".psd", ".ico", ".dib"), "a rarer kind of picture"
    ),
    ".avif": "AVIF, which this build of Pillow cannot read",
}

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # of PNG, JPEG, GIF, BMP and TIFF

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
NEGATIONS = frozenset({"no", "non", "not", "without", "pre"})
_COPY = re.compile(r"(?P<stem>.+) \(\d+\)")


def leave_out(file: Path, reason: str, kind: LeftOut = "extra file") -> None:
    """Tell the user that a reader leaves out a file, and why."""
    report_left_out(kind, file, f"{file}: left out: {reason}")


def find_folders(root: Path, *layouts: Sequence[str]) -> list[Path]:
    """Find the sub-folders of the first layout in circulation that is complete, in its order, whatever their case.

    Raises:
        DatasetError: if none is; the message says so where one lies a level above or below.
    """
    require_one_case(root, [name.lower() for names in layouts for name in names])
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


def require_one_case(folder: Path, names: Collection[str]) -> None:
    """Refuse folders of images, of names in lower case, that differ in case alone: only one of them would be read."""
    known = sub_folders(folder)
    for path in sorted(folder.iterdir()):
        other = known.get(path.name.lower(), path)
        if path.name.lower() not in names or other == path:
            continue
        if all(any(map(is_image_file, files_below(one))) for one in (path, other)):
            raise DatasetError(
                f"{folder}: holds {path.name}/ and {other.name}/, whose names differ in case alone; put their files "
                "into one of them"
            )


def files_below(folder: Path, without: Collection[Path] = ()) -> Iterator[Path]:
    """Yield all files below a folder, and links that lead nowhere, in order.

    Hidden folders are not searched, nor are those (resolved) of `without`.
    """
    for path in sorted(folder.iterdir()):
        if not path.is_dir():
            yield path
        elif not path.name.startswith(".") and path.resolve() not in without:
            yield from files_below(path, {*without, path.resolve()})  # a link may lead back up to it


def is_image_file(file: Path) -> bool:
    """Tell whether a file may hold an image: by its suffix, or because it is DICOM.

    What its name or a link promises counts, though it may not be there: reading it says what is wrong.
    """
    if file.suffix.lower() in SUFFIXES or is_dicom(file):
        return True
    has_suffix = file.suffix.strip(".0123456789")
    return not has_suffix and not file.name.startswith(".") and file.is_symlink() and not file.exists()


def unread_format(file: Path) -> str | None:
    """Name the format of a picture that is none of those that are read, by the end of its name; None of other files.

    A picture whose name has no such end is told by its first bytes.
    """
    name = file.name.lower()
    if is_image_file(file):
        return None
    if not (file.suffix or name.startswith(".")) and file.is_file() and os.access(file, os.R_OK):
        with file.open("rb") as opened:
            return "a picture whose name says no format" if opened.read(8).startswith(_SIGNATURES) else None
    return next((form for end, form in _UNREAD_FORMATS.items() if name.endswith(end)), None)


def why_unread(file: Path) -> str | None:
    """Say why a file that looks like a picture is not even tried; None if it is, or does not look like one."""
    if form := unread_format(file):
        return f"{form} is not read; save its pictures as PNG"
    if not is_image_file(file):
        return None
    if file.name.startswith("."):
        return "a hidden file"
    return "no file, but a pipe or a device" if file.exists() and not file.is_file() else None


def may_be_clip(file: Path) -> bool:
    """Tell whether an image file may hold several frames: DICOM and some others may."""
    return file.suffix.lower() not in IMAGE_SUFFIXES - CLIP_SUFFIXES


def image_files(folder: Path, *, dicom: bool = False) -> list[Path]:
    """List the image files of a folder, sorted by name; what looks like one and is not read is left out.

    DICOM files are listed if asked for. Hidden ones are left out: archives made on a Mac carry a `._a.png` beside each
    `a.png`.
    """
    found = []
    for file in sorted(folder.iterdir()):
        if file.is_dir():
            continue
        if why := why_unread(file):
            leave_out(file, why, "not read" if unread_format(file) else "extra file")
        elif is_image_file(file) if dicom else file.suffix.lower() in IMAGE_SUFFIXES:
            found.append(file)
    return found


def image_stem(name: str) -> str:
    """Return the stem of an image that a table names with or without its folder and suffix.

    >>> image_stem("images/scan.01.PNG"), image_stem("scan.01"), image_stem("clip.dcm"), image_stem("clip-0003")
    ('scan.01', 'scan.01', 'clip', 'clip-0003')
    """
    path = PurePosixPath(composed(name).replace("\\", "/"))
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def leave_out_copy(file: Path, stems: Collection[str]) -> bool:
    """Leave out a file such as `SIBA_001 (1).png`, if it is a stray copy of one of these stems; False if it is none.

    Browsers and file managers name a second download so. A name alone is no proof: the original must be there.
    """
    copy = _COPY.fullmatch(file.stem)
    if not copy or copy["stem"] not in stems:
        return False
    leave_out(file, f"a stray copy of {copy['stem']}{file.suffix}", "stray copy")
    return True


def without_copies(files: Sequence[Path]) -> list[Path]:
    """Leave out the stray copies among the files of one folder."""
    stems = {file.stem for file in files}
    return [file for file in files if not leave_out_copy(file, stems)]


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Key files by their stem; of two that differ in their suffix alone, which is a problem, the first."""
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(frame_stem(file, None), file)
        if other != file:
            what = "suffix" if file.suffix != other.suffix else "letters' Unicode form"
            message = f"{file}: {other.name} differs in the {what} alone; remove one of the two"
            report_problem("name taken twice", file, message)
    return stems


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Key the image files of a folder by their stem, stray copies left out."""
    return by_stem(without_copies(image_files(folder)))


def find_mask(masks: Mapping[str, Path], stem: str, image: Path) -> Path | None:
    """Look up the mask of an image by the mask's stem; None, and a problem, if there is none."""
    mask = masks.get(stem)
    if mask is None:
        report_missing_mask(image, stem)
    return mask


def find_lesion_masks(
    masks: Mapping[str, Sequence[Path]], image: Path, label: Label, affix: str
) -> tuple[Path, ...] | None:
    """Look up all masks of an image by its stem; None, and a problem, if it shows a lesion and there are none."""
    found = tuple(masks.get(image.stem, ()))
    if found or label == "normal":
        return found
    report_missing_mask(image, f"{image.stem}{affix}")
    return None


def report_missing_mask(image: Path, stem: str, folder: Path | None = None) -> None:
    """Report that an image lacks the mask of this stem, and what lies in its place in the folder of masks."""
    message = f"{image}: its mask {stem}{image.suffix} is missing"
    advice = "restore the mask or remove the image"
    word = re.compile(rf"(?<![^\W_]){re.escape(stem)}(?![^\W_])", re.IGNORECASE)
    for file in sorted(folder.iterdir()) if folder else ():
        name = composed(printable(file.name))
        if file != image and not file.is_dir() and word.search(name):
            form = unread_format(file)
            advice = f"{form} is not read: save it as PNG" if form else "name it as its image, upper and lower case too"
            message += f", but {folder} holds {name}"
            break
    report_problem("missing file", image, f"{message}; {advice}")


def leave_out_masks_without_image(masks: Mapping[str, Sequence[Path]], images: Iterable[str]) -> None:
    """Leave out the masks, keyed by the stem of their image, of which there is no image."""
    for stem in sorted(masks.keys() - set(images)):
        for file in masks[stem]:
            leave_out(file, f"a mask without its image {stem}.png")


def leave_out_unused_masks(masks: Mapping[str, Path], used: Iterable[str]) -> None:
    """Leave out the masks, keyed by their own stem, that belong to no image."""
    for stem in sorted(masks.keys() - set(used)):
        leave_out(masks[stem], "a mask without its image")


def says(text: str, word: str) -> bool:
    """Tell whether a word stands in a text as a whole one, and not denied or qualified by the word before.

    >>> says("BenignCases", "benign"), says("malignant_list", "malignant")
    (True, True)
    >>> says("non-malignant", "malignant"), says("nonmalignant", "malignant"), says("cases not malignant", "malignant")
    (False, False, False)
    """
    words = [found.lower() for found in _WORDS.findall(text)]
    return any(word == one and before not in NEGATIONS for before, one in pairwise(("", *words)))
