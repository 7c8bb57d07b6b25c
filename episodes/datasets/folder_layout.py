"""The layout of a user's own folder: its images, the masks of each, and what fits nowhere.

Both `fewshot data init` and the reader `folder` are based on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.datasets.files import by_stem, files_below, image_files, is_image_file, leave_out, unread_format
from episodes.datasets.folder_parts import FolderPart, describe, find_clip, find_parts, looks_like_mask, parse_mask_name
from episodes.datasets.metadata import TABLE, find_metadata
from episodes.datasets.problems import listed_problems, report_left_out, report_problem
from episodes.errors import DatasetError
from episodes.images.decoding import read_frames
from episodes.images.dicom_header import DicomFacts, NoPictureError, is_dicom, read_dicom_facts
from episodes.records import Label, frame_stem

Masks = Mapping[int | None, tuple[Path, ...]]


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image file and its masks."""

    path: Path
    label: Label | None  # what its folder's name says; None if it says nothing
    frames: int  # how many it holds; 0 if its header cannot be read
    masks: Masks  # mask files by frame, from 1 on; those of a still image under None
    facts: DicomFacts | None = None  # what its header says, if it is DICOM
    mask_folder: Path | None = None  # where its masks would lie

    @property
    def stem(self) -> str:
        """Return its name, without the number of a frame."""
        return frame_stem(self.path, None)

    @property
    def mask_affix(self) -> str:
        """Return what a mask's name needs besides the image's: something where masks lie beside their images."""
        return "_mask" if self.mask_folder == self.path.parent else ""

    @property
    def is_clip(self) -> bool:
        """Tell whether it holds several frames: those with a mask are images of their own."""
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """The content of a folder, as far as it is understood."""

    root: Path
    parts: tuple[FolderPart, ...]  # where its images and masks lie
    images: tuple[FolderImage, ...]  # its images, part by part and by name
    table: Path | None  # its table of metadata, if there is one

    def __str__(self) -> str:
        return describe(self.parts, self.root)


def read_layout(root: Path) -> FolderLayout:
    """Read a folder's names, and the headers of files that may hold several frames.

    Raises:
        DatasetError: if the layout is none that is known, or can be read in two ways; and for what is wrong with
            single files, see `episodes.datasets.problems`.
    """
    parts = find_parts(root)
    by_masks: dict[Path, list[FolderPart]] = {}
    for part in parts:
        by_masks.setdefault(part.masks, []).append(part)
    images = tuple(image for masks, group in by_masks.items() for image in _match(masks, group))
    _leave_out_other_folders(root, parts)
    stems = {frame_stem(image.path, frame) for image in images for frame in image.masks or (None,)}
    table = find_metadata((root, *(part.images for part in parts)), stems)
    return FolderLayout(root, parts, images, table)


def _leave_out_other_folders(root: Path, parts: Sequence[FolderPart]) -> None:
    """Leave out the pictures that lie beside the folders that are read, or in folders within them."""
    read = {folder.resolve() for part in parts for folder in (part.images, part.masks)}
    if root.resolve() not in read:
        for file in image_files(root, dicom=True):
            leave_out(file, f"it lies beside the folders that are read ({describe(parts, root)})")
    others: dict[Path, list[str]] = {}
    for file in files_below(root):
        folder = file.parent
        if folder != root and folder.resolve() not in read and (is_image_file(file) or unread_format(file)):
            others.setdefault(folder, []).append(file.name)
    for folder, names in others.items():
        held = f"{len(names)} pictures, such as {names[0]}" if len(names) > 1 else names[0]
        if read.isdisjoint(parent.resolve() for parent in folder.parents if parent != root):
            if listed_problems() is None:  # where problems are listed, each such file is one
                leave_out(folder, f"it holds {held}, and is none of those that are read ({describe(parts, root)})")
        else:
            leave_out(folder, f"it holds {held}, but lies within a folder that is read: {_UNNEST}", "not read")


_UNNEST = (
    "give every file a name of its own, such as patient1_0.png for patient1/0.png, and put it into the folder above; "
    f"say in {TABLE} whose it is (columns image, patient)"
)


def _match(mask_folder: Path, parts: Sequence[FolderPart]) -> Iterator[FolderImage]:
    """Yield the images of the parts whose masks lie in this folder."""
    found = {part: [(path, _read_header(path)) for path in image_files(part.images, dicom=True)] for part in parts}
    headers = {path: header for pairs in found.values() for path, header in pairs if header}
    files = {part: by_stem(path for path, header in pairs if header) for part, pairs in found.items()}
    # What cannot be read is taken for a still image, so that its mask is no problem as well.
    frames = {stem: max(1, headers[path][0]) for paths in files.values() for stem, path in paths.items()}
    beside = next((paths for part, paths in files.items() if part.images == mask_folder), None)
    masks = by_stem(image_files(mask_folder, dicom=True)) if beside is None else _masks_among(beside, frames)
    matched = _match_names(masks, frames, same_name=beside is None)
    used = set(masks.values())
    for part, paths in files.items():
        for stem, path in paths.items():
            if path not in used:
                count, facts = headers[path]
                own = _settle_masks(path, count, matched.get(stem, {}))
                yield FolderImage(path, part.label, count, own, facts, mask_folder)


def _masks_among(files: Mapping[str, Path], frames: Mapping[str, int]) -> dict[str, Path]:
    """Find the masks where images and masks lie side by side.

    Those that are another file's mask by name, and those that look like masks but have no image. A file that is both
    a mask and has one itself could be either.
    """
    named = {stem: parse_mask_name(stem, frames, same_name=False) for stem in files}
    has_mask = {name.image for name in named.values() if name}
    for stem, name in named.items():
        if name and stem in has_mask:
            message = (
                f"{files[stem]}: may be the mask of {files[name.image].name}, or an image with a mask of its own; "
                "rename one of the two"
            )
            report_problem("name taken twice", files[stem], message)
    alone = {stem for stem, name in named.items() if name is None and stem not in has_mask and looks_like_mask(stem)}
    return {stem: file for stem, file in files.items() if named[stem] or stem in alone}


# The masks of one image: by frame, then by affix.
_Named = dict[int | None, dict[str, list[Path]]]


def _match_names(masks: Mapping[str, Path], frames: Mapping[str, int], *, same_name: bool) -> dict[str, _Named]:
    """Sort masks by the stem of their image; those without one are left out."""
    matched: dict[str, _Named] = {}
    for stem, mask in masks.items():
        if name := parse_mask_name(stem, frames, same_name=same_name):
            of_image = matched.setdefault(name.image, {})
            of_image.setdefault(name.frame, {}).setdefault(name.affix, []).append(mask)
        elif clip := find_clip(stem, frames):
            leave_out(mask, f"it does not say of which frame it is the mask; name it such as {clip}-0001{mask.suffix}")
        else:
            leave_out(mask, "a mask without its image")
    return matched


def _settle_masks(image: Path, frames: int, named: _Named) -> Masks:
    """Choose the masks of an image's frames.

    Masks of two affixes for the same frame, of which it is open which counts, are a problem; masks of frames that
    there are not are left out.
    """
    chosen: dict[int | None, tuple[Path, ...]] = {}
    for frame, by_affix in named.items():
        (first, *more), *others = by_affix.values()
        if others:
            where = image.name if frame is None else f"frame {frame} of {image.name}"
            message = f"{first}: {others[0][0].name} may be the mask of {where} as well; remove one of the two"
            report_problem("name taken twice", first, message)
        chosen[frame] = (first, *more)
    for frame in [frame for frame in chosen if frame is not None and not 1 <= frame <= frames]:
        for path in chosen.pop(frame):
            leave_out(path, f"the mask of frame {frame}, but {image.name} holds {frames}, counted from 1")
    return chosen


def _read_header(path: Path) -> tuple[int, DicomFacts | None] | None:
    """Read how many frames a file holds, and its facts if it is DICOM; 0, and a problem, if it is damaged.

    A DICOM file that holds no picture is left out.
    """
    try:
        if is_dicom(path):
            facts = read_dicom_facts(path)
            return facts.frames, facts
        return read_frames(path), None
    except NoPictureError as error:
        report_left_out("extra file", path, f"{error}: left out")
        return None
    except DatasetError as error:
        report_problem("bad value", path, str(error))
        return 0, None
