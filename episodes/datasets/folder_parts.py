"""The parts of a user's folder, and the names that masks have."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from episodes.datasets.files import NEGATIONS, files_below, is_image_file, may_be_clip, require_one_case, sub_folders
from episodes.datasets.foreign_layouts import name_foreign, name_label_studio
from episodes.errors import DatasetError
from episodes.records import Label, frame_stem

_WORD = r"masks?|seg(?:mentation)?s?|gts?|ground[ _-]?truths?|labels?|annotations?"
_AFTER = re.compile(rf"(?P<image>.+?)[ _.-](?P<word>{_WORD})(?:[ _-]?\d+)?", re.IGNORECASE)
_BEFORE = re.compile(rf"(?P<word>{_WORD})[ _.-](?P<image>.+)", re.IGNORECASE)
_DENIED = re.compile(rf"(?:^|[ _.-])(?:{'|'.join(sorted(NEGATIONS))})[ _.-](?:{_WORD})(?![a-z])", re.IGNORECASE)
_FRAME = re.compile(r"(?P<clip>.+)[_-](?P<frame>\d+)")

# What sets an image's name apart from its mask's: `a_image.png` beside `a_mask.png`, nnU-Net's number of a channel.
_WORDS_OF_IMAGES = ("image", "Image", "IMAGE", "img", "Img", "IMG")
_OF_IMAGES = (
    *(form for word in _WORDS_OF_IMAGES for mark in "_-. " for form in (f"{{}}{mark}{word}", f"{word}{mark}{{}}")),
    "{}_0000",
)

SAME_NAME = ""


@dataclass(frozen=True, slots=True)
class MaskName:
    """The meaning of a mask's name."""

    image: str  # the stem of its image
    frame: int | None  # which frame of it, from 1 on; None for a still image
    # What sets its name apart from the image's, without a number: masks of one affix are parts of one lesion map, as
    # BUSI's `_mask` and `_mask_1`. `SAME_NAME` if nothing does.
    affix: str


def parse_mask_name(stem: str, frames: Mapping[str, int], *, same_name: bool) -> MaskName | None:
    """Find the image of a mask: the one of the same name, else the one whose name it bears with a usual affix.

    An image may have an affix as well: the mask of `a_image` may be `a_mask`.

    Args:
        stem: the mask's stem, such as `a`, `a_mask`, `a-seg_2`, `mask_a`; for frame 3 of a clip `clip-0003` or
            `clip_0003_mask`.
        frames: how many frames each image has, by its stem.
        same_name: whether a mask may bear its image's very name, as it does in a folder of its own.

    Returns:
        None if it belongs to none of them.

    >>> images = {"a": 1, "clip": 20}
    >>> parse_mask_name("a_mask_1", images, same_name=False)
    MaskName(image='a', frame=None, affix='_mask')
    >>> parse_mask_name("clip-0003", images, same_name=True)
    MaskName(image='clip', frame=3, affix='')
    >>> parse_mask_name("b_mask", images, same_name=True)
    >>> parse_mask_name("b_mask", {"b_image": 1}, same_name=False)
    MaskName(image='b_image', frame=None, affix='_mask')
    """
    for name, affix in _bare_names(stem):
        if affix or same_name:
            for image in (name, *(form.format(name) for form in _OF_IMAGES)):
                if frames.get(image) == 1:
                    return MaskName(image, None, affix)
        numbered = _FRAME.fullmatch(name)
        if numbered and frames.get(numbered["clip"], 1) > 1:
            return MaskName(numbered["clip"], int(numbered["frame"]), affix)
    return None


def find_clip(stem: str, frames: Mapping[str, int]) -> str | None:
    """Find the clip whose name a mask bears without saying which frame it is of; None if there is none."""
    return next((name for name, _ in _bare_names(stem) if frames.get(name, 1) > 1), None)


def looks_like_mask(stem: str) -> bool:
    """Tell whether a name bears an affix of masks.

    >>> looks_like_mask("scan_7_Segmentation"), looks_like_mask("scan_7"), looks_like_mask("masked")
    (True, False, False)
    >>> looks_like_mask("scan_7_without_mask"), looks_like_mask("no-label_7")
    (False, False)
    """
    denied = _DENIED.search(stem)
    return not denied and bool(_AFTER.fullmatch(stem) or _BEFORE.fullmatch(stem))


def _bare_names(stem: str) -> Iterator[tuple[str, str]]:
    """Yield the name as it is and without affixes, each with the affix."""
    yield stem, SAME_NAME
    if after := _AFTER.fullmatch(stem):
        yield after["image"], f"_{after['word'].lower()}"
    if before := _BEFORE.fullmatch(stem):
        yield before["image"], f"{before['word'].lower()}_"


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "imagestr")  # the last, and the masks' last, are nnU-Net's
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth", "ground_truth", "annotations", "annotation"),
    *("segmentations", "segmentation", "labelstr"),
)
CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")


@dataclass(frozen=True, slots=True)
class FolderPart:
    """A folder of images."""

    images: Path  # where they lie
    masks: Path  # where their masks lie; the same folder where they lie side by side
    label: Label | None = None  # what the folder's name says of all its images; None if it says nothing


def find_parts(root: Path) -> tuple[FolderPart, ...]:
    """Find where a folder's images and masks lie.

    It may hold one folder of images and one of masks, under one of the usual names; or both side by side, told apart
    by the masks' affix; or either of these inside folders `benign/`, `malignant/`, `normal/`, whose names are then
    the labels; these may also lie inside the folders of images and masks. Upper and lower case are the same.

    Raises:
        DatasetError: if it holds none of these, or can be read in two ways; the message names both.
    """
    readings = [reading for reading in (_apart(root), _by_class(root), _side_by_side(root)) if reading]
    if not readings:
        raise DatasetError(_nothing_found(root))
    masks = [file for reading in readings for part in reading for file in _images(part.masks)]
    foreign = name_label_studio(masks) if masks else name_foreign(root)
    if foreign:
        raise DatasetError(f"{root}: {foreign}")
    if len(readings) > 1:
        one, other = (describe(reading, root) for reading in readings[:2])
        raise DatasetError(f"{root} can be read in two ways: {one}; or {other}: move one of the two elsewhere")
    return readings[0]


def describe(parts: Sequence[FolderPart], root: Path) -> str:
    """Describe where images and masks lie within a root.

    >>> describe([FolderPart(Path("a/benign/images"), Path("a/benign/masks"))], Path("a"))
    'images in benign/images/, masks in benign/masks/'
    """
    texts = []
    for part in parts:
        images, masks = (
            f"{path.relative_to(root).as_posix()}/".removeprefix("./") for path in (part.images, part.masks)
        )
        apart = f"images in {images}, masks in {masks}"
        beside = f"images and masks side by side in {images or 'the folder itself'}"
        texts.append(beside if part.images == part.masks else apart)
    return "; ".join(texts)


def _apart(folder: Path, label: Label | None = None) -> tuple[FolderPart, ...]:
    """Find images in one folder and masks in another, if they lie so."""
    images, masks = (_only_one(folder, names) for names in (IMAGE_FOLDERS, MASK_FOLDERS))
    if images is None:
        return ()
    if masks is None:
        is_whole = label == "normal" or _has_pairs(images)
        return (FolderPart(images, images, label),) if is_whole else ()
    classes = _class_folders(images)
    if not classes or label:
        return (FolderPart(images, masks, label),)
    if _images(images):
        raise DatasetError(
            f"{images} can be read in two ways: as images of no label, or as the folders "
            f"{', '.join(f'{name}/' for name in classes)}: move the images among them into these"
        )
    inside = _class_folders(masks)
    return tuple(FolderPart(path, inside.get(name, masks), name) for name, path in classes.items())


def _by_class(root: Path) -> tuple[FolderPart, ...]:
    """Find a folder for each class, each with images and masks apart or side by side, if they lie so."""
    parts: list[FolderPart] = []
    for label, folder in _class_folders(root).items():
        inside = _apart(folder, label)
        if not inside and _images(folder):
            inside = (FolderPart(folder, folder, label),)
        parts += inside
    return tuple(parts)


def _side_by_side(folder: Path) -> tuple[FolderPart, ...]:
    return (FolderPart(folder, folder),) if _has_pairs(folder) else ()


def _has_pairs(folder: Path) -> bool:
    """Tell whether any image is another one's mask, or may be that of one of its frames."""
    images = _images(folder)
    stills = {frame_stem(file, None): 1 for file in images}
    clips = stills | {frame_stem(file, None): 2 for file in images if may_be_clip(file)}
    return any(parse_mask_name(stem, frames, same_name=False) for stem in stills for frames in (stills, clips))


def _only_one(folder: Path, names: Sequence[str]) -> Path | None:
    """Find the sub-folder of one of these names; of several, the one that holds images."""
    require_one_case(folder, names)
    found = [path for name, path in sub_folders(folder).items() if name in names]
    if len(found) > 1:
        holds = [any(map(_images, (path, *_class_folders(path).values()))) for path in found]
        found = list(compress(found, holds)) or found[:1]
    if len(found) > 1:
        one, other, *_ = found
        raise DatasetError(f"{folder} can be read in two ways: by {one.name}/, or by {other.name}/; rename one of them")
    return found[0] if found else None


def _class_folders(folder: Path) -> dict[Label, Path]:
    require_one_case(folder, CLASSES)
    inside = sub_folders(folder)
    return {label: inside[label] for label in CLASSES if label in inside}


def _images(folder: Path) -> list[Path]:
    shown = (path for path in sorted(folder.iterdir()) if not path.is_dir() and not path.name.startswith("."))
    return [path for path in shown if is_image_file(path)]


def _nothing_found(root: Path) -> str:
    """Say what was expected, and where it is if it lies a level above or below."""
    message = f"{root} lacks the folders images/, masks/"
    if foreign := name_foreign(root):
        return f"{message}; {foreign}"
    readable = []
    for other in (*sub_folders(root).values(), root.resolve().parent):
        try:
            parts = _apart(other) or _by_class(other) or (_side_by_side(other) if other.parent == root else ())
            is_one = any(_images(part.masks) for part in parts)
        except (DatasetError, OSError):
            continue
        if is_one:
            readable.append(other)
    if len(readable) > 1:
        return (
            f"{message}; {len(readable)} folders can each be read by itself, such as {readable[0]}: give one, or put "
            "the files of all into images/ and masks/, each under a name of its own"
        )
    if readable:
        return f"{message}; {readable[0]} can be read: give that folder"
    images = len(_images(root))
    lone = f"; its {images} images have no masks: name them such as a_mask.png for a.png" if images else ""
    below = {file.parent.relative_to(root).as_posix(): None for file in files_below(root) if is_image_file(file)}
    if deeper := [f"{place}/" for place in below if place != "."]:
        lone += f"; pictures lie in {', '.join(deeper[:3])}{' and others' if len(deeper) > 3 else ''}"
    return (
        f"{message}; give the folder that holds them, or one of images with masks beside them (a.png, a_mask.png); "
        f"folders benign/, malignant/, normal/ may lie around either{lone}"
    )
