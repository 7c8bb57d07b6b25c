"""A look at a user's own folder: its images, the masks of each, and what fits nowhere.

What `fewshot data init` says and what the reader `folder` reads are both taken from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from episodes.datasets.complaints import complain
from episodes.datasets.files import by_picture_stem, leave_out, may_be_clip, picture_files
from episodes.datasets.folder_parts import MaskName, Part, clip_meant, describe, find_parts, looks_like_mask, understand
from episodes.errors import DatasetError
from episodes.images.decoding import read_frames
from episodes.images.dicom_header import DicomFacts, is_dicom, read_facts
from episodes.records import Label, frame_stem

TABLE = "metadata.csv"

Masks = Mapping[int | None, tuple[Path, ...]]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file and its masks.

    Attributes:
        path: the image.
        label: what its folder's name says; None if it says nothing.
        frames: how many it holds; 0 if its header cannot be read.
        masks: mask files by frame, from 1 on; those of a single picture under None.
        facts: what its header says, if it is DICOM.
    """

    path: Path
    label: Label | None
    frames: int
    masks: Masks
    facts: DicomFacts | None = None

    @property
    def stem(self) -> str:
        """Its name, without the number of a frame."""
        return frame_stem(self.path, None)

    @property
    def is_clip(self) -> bool:
        """Whether it holds several frames: those with a mask are images of their own."""
        return self.frames > 1


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """What a folder was understood to hold.

    Attributes:
        root: the folder.
        parts: where its images and masks lie.
        pictures: its images, part by part and by name.
        table: its table of metadata, whether there is one or not.
    """

    root: Path
    parts: tuple[Part, ...]
    pictures: tuple[Picture, ...]
    table: Path

    def __str__(self) -> str:
        """The layout in words."""
        return describe(self.parts, self.root)


@dataclass(slots=True)
class _Matched:
    """The masks found so far of one image: by frame, then by affix."""

    masks: dict[int | None, dict[str, list[Path]]] = field(default_factory=dict)

    def add(self, name: MaskName, mask: Path) -> None:
        self.masks.setdefault(name.frame, {}).setdefault(name.affix, []).append(mask)

    def settled(self, image: Path) -> Masks:
        """The masks by frame; masks of two affixes for the same picture, of which it is open which counts, complain."""
        chosen: dict[int | None, tuple[Path, ...]] = {}
        for frame, by_affix in self.masks.items():
            (first, *_), *others = by_affix.values()
            if others:
                where = image.name if frame is None else f"frame {frame} of {image.name}"
                message = f"{first}: {others[0][0].name} may be the mask of {where} as well; remove one of the two"
                complain("name taken twice", first, message)
            chosen[frame] = tuple(next(iter(by_affix.values())))
        return chosen


def look(root: Path) -> FolderLayout:
    """Look at a folder's names, and at the headers of files that may hold several frames.

    Raises:
        DatasetError: if the layout is none that is known, or can be read in two ways; and for what is wrong with
            single files, see `episodes.datasets.complaints`.
    """
    parts = find_parts(root)
    places: dict[Path, list[Part]] = {}
    for part in parts:
        places.setdefault(part.masks, []).append(part)
    pictures = [picture for masks, group in places.items() for picture in _match(masks, group)]
    if root not in {folder for part in parts for folder in (part.images, part.masks)}:
        for file in picture_files(root):
            leave_out(file, f"it lies beside the folders that are read ({describe(parts, root)})")
    return FolderLayout(root, parts, tuple(pictures), root / TABLE)


def _match(mask_folder: Path, parts: Sequence[Part]) -> Iterator[Picture]:
    """The images of the parts whose masks lie in this folder."""
    labels = {part.images: part.label for part in parts}
    files = {folder: by_picture_stem(picture_files(folder)) for folder in labels}
    facts = {path: _facts(path) for paths in files.values() for path in paths.values()}
    # What cannot be read is taken for a single picture, so that its mask is not complained of as well.
    frames = {stem: max(1, facts[path][0]) for paths in files.values() for stem, path in paths.items()}
    beside = files.get(mask_folder)
    masks = by_picture_stem(picture_files(mask_folder)) if beside is None else _masks_among(beside, frames)
    matched = _matched(masks, frames, same_name=beside is None)
    used = set(masks.values())
    for folder, paths in files.items():
        for stem, path in paths.items():
            if path not in used:
                count, header = facts[path]
                found = matched[stem].settled(path) if stem in matched else {}
                yield Picture(path, labels[folder], count, _possible(path, count, found), header)


def _masks_among(files: Mapping[str, Path], frames: Mapping[str, int]) -> dict[str, Path]:
    """Which files are masks where images and masks lie side by side.

    Those that are another file's mask by name, and those that look like masks but have no image. A file that is both
    a mask and has one itself could be either.
    """
    named = {stem: understand(stem, frames, same_name=False) for stem in files}
    has_mask = {name.image for name in named.values() if name}
    for stem, name in named.items():
        if name and stem in has_mask:
            message = (
                f"{files[stem]}: may be the mask of {files[name.image].name}, or an image with a mask of its own; "
                "rename one of the two"
            )
            complain("name taken twice", files[stem], message)
    alone = {stem for stem, name in named.items() if name is None and stem not in has_mask and looks_like_mask(stem)}
    return {stem: file for stem, file in files.items() if named[stem] or stem in alone}


def _matched(masks: Mapping[str, Path], frames: Mapping[str, int], *, same_name: bool) -> dict[str, _Matched]:
    """Sort masks by image; those without one are left out."""
    matched: dict[str, _Matched] = {}
    for stem, mask in masks.items():
        if name := understand(stem, frames, same_name=same_name):
            matched.setdefault(name.image, _Matched()).add(name, mask)
        elif clip := clip_meant(stem, frames):
            leave_out(mask, f"it does not say of which frame it is the mask; name it such as {clip}-0001{mask.suffix}")
        else:
            leave_out(mask, "a mask without its image")
    return matched


def _possible(image: Path, frames: int, masks: Masks) -> Masks:
    """Without the masks of frames that there are not."""
    kept = {}
    for frame, paths in masks.items():
        if frame is None or 1 <= frame <= frames:
            kept[frame] = paths
        else:
            for path in paths:
                leave_out(path, f"the mask of frame {frame}, but {image.name} holds {frames}, counted from 1")
    return kept


def _facts(path: Path) -> tuple[int, DicomFacts | None]:
    """How many frames a file holds, and its header if it is DICOM; 0, and a complaint, if it is damaged."""
    if not may_be_clip(path):
        return 1, None
    try:
        if is_dicom(path):
            facts = read_facts(path)
            return facts.frames, facts
        return read_frames(path), None
    except DatasetError as error:
        complain("bad value", path, str(error))
        return 0, None
