"""The parts of a user's folder, and the names that masks have."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.datasets.files import is_picture, may_be_clip, sub_folders
from episodes.errors import DatasetError
from episodes.records import Label, frame_stem

_WORD = r"masks?|seg(?:mentation)?s?|gts?|ground[ _-]?truths?|labels?|annotations?"
_AFTER = re.compile(rf"(?P<image>.+?)[ _.-](?P<word>{_WORD})(?:[ _-]?\d+)?", re.IGNORECASE)
_BEFORE = re.compile(rf"(?P<word>{_WORD})[ _.-](?P<image>.+)", re.IGNORECASE)
_FRAME = re.compile(r"(?P<clip>.+)[_-](?P<frame>\d+)")

SAME_NAME = ""


@dataclass(frozen=True, slots=True)
class MaskName:
    """How the name of a mask is understood.

    Attributes:
        image: the stem of its image.
        frame: which frame of it, from 1 on; None if the image holds one picture.
        affix: what sets its name apart from the image's, without a number: masks of one affix are parts of one lesion
            map, as BUSI's `_mask` and `_mask_1`. `SAME_NAME` if nothing does.
    """

    image: str
    frame: int | None
    affix: str


def understand(stem: str, frames: Mapping[str, int], *, same_name: bool) -> MaskName | None:
    """Find the image of a mask: the one of the same name, else the one whose name it bears with a usual affix.

    Args:
        stem: the mask's stem, such as `a`, `a_mask`, `a-seg_2`, `mask_a`; for frame 3 of a clip `clip-0003` or
            `clip_0003_mask`.
        frames: how many frames each image has, by its stem.
        same_name: whether a mask may bear its image's very name, as it does in a folder of its own.

    Returns:
        None if it belongs to none of them.

    >>> images = {"a": 1, "clip": 20}
    >>> understand("a_mask_1", images, same_name=False)
    MaskName(image='a', frame=None, affix='_mask')
    >>> understand("clip-0003", images, same_name=True)
    MaskName(image='clip', frame=3, affix='')
    >>> understand("b_mask", images, same_name=True)
    """
    for name, affix in _bare_names(stem):
        if name in frames and frames[name] == 1 and (affix or same_name):
            return MaskName(name, None, affix)
        numbered = _FRAME.fullmatch(name)
        if numbered and frames.get(numbered["clip"], 1) > 1:
            return MaskName(numbered["clip"], int(numbered["frame"]), affix)
    return None


def clip_meant(stem: str, frames: Mapping[str, int]) -> str | None:
    """The clip whose name a mask bears without saying which frame it is of; None if there is none."""
    return next((name for name, _ in _bare_names(stem) if frames.get(name, 1) > 1), None)


def looks_like_mask(stem: str) -> bool:
    """Whether a name bears an affix of masks.

    >>> looks_like_mask("scan_7_Segmentation"), looks_like_mask("scan_7"), looks_like_mask("masked")
    (True, False, False)
    """
    return bool(_AFTER.fullmatch(stem) or _BEFORE.fullmatch(stem))


def _bare_names(stem: str) -> Iterator[tuple[str, str]]:
    """The name as it is and without affixes, each with the affix."""
    yield stem, SAME_NAME
    if after := _AFTER.fullmatch(stem):
        yield after["image"], f"_{after['word'].lower()}"
    if before := _BEFORE.fullmatch(stem):
        yield before["image"], f"{before['word'].lower()}_"


IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "gt", "groundtruth", "ground_truth", "annotations", "annotation"),
    *("segmentations", "segmentation"),
)
CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of images.

    Attributes:
        images: where they lie.
        masks: where their masks lie; the same folder where they lie side by side.
        label: what the folder's name says of all its images; None if it says nothing.
    """

    images: Path
    masks: Path
    label: Label | None = None

    def text(self, root: Path) -> str:
        """How it is described, within the root.

        >>> Part(Path("a/benign/images"), Path("a/benign/masks")).text(Path("a"))
        'images in benign/images/, masks in benign/masks/'
        """
        images, masks = (
            f"{path.relative_to(root).as_posix()}/".removeprefix("./") for path in (self.images, self.masks)
        )
        if self.images == self.masks:
            return f"images and masks side by side in {images or 'the folder itself'}"
        return f"images in {images}, masks in {masks}"


def find_parts(root: Path) -> tuple[Part, ...]:
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
    if len(readings) > 1:
        one, other = (describe(reading, root) for reading in readings[:2])
        raise DatasetError(f"{root} can be read in two ways: {one}; or {other}: move one of the two elsewhere")
    return readings[0]


def describe(parts: Sequence[Part], root: Path) -> str:
    """The layout in words, such as `images in images/, masks in masks/`."""
    return "; ".join(part.text(root) for part in parts)


def _apart(folder: Path, label: Label | None = None) -> tuple[Part, ...]:
    """Images in one folder, masks in another; or none."""
    images, masks = (_only_one(folder, names) for names in (IMAGE_FOLDERS, MASK_FOLDERS))
    if images is None:
        return ()
    if masks is None:
        is_whole = label == "normal" or _has_pairs(images)
        return (Part(images, images, label),) if is_whole else ()
    classes = _class_folders(images)
    if not classes or label:
        return (Part(images, masks, label),)
    if any(map(is_picture, _files(images))):
        raise DatasetError(
            f"{images} can be read in two ways: as images of no label, or as the folders "
            f"{', '.join(f'{name}/' for name in classes)}: move the images among them into these"
        )
    inside = _class_folders(masks)
    return tuple(Part(path, inside.get(name, masks), name) for name, path in classes.items())


def _by_class(root: Path) -> tuple[Part, ...]:
    """A folder for each class, each with images and masks apart or side by side; or none."""
    parts: list[Part] = []
    for label, folder in _class_folders(root).items():
        inside = _apart(folder, label)
        if not inside and any(map(is_picture, _files(folder))):
            inside = (Part(folder, folder, label),)
        parts += inside
    return tuple(parts)


def _side_by_side(folder: Path) -> tuple[Part, ...]:
    return (Part(folder, folder),) if _has_pairs(folder) else ()


def _has_pairs(folder: Path) -> bool:
    """Whether any picture is another one's mask, or may be that of one of its frames."""
    pictures = [file for file in _files(folder) if is_picture(file)]
    stills = {frame_stem(file, None): 1 for file in pictures}
    clips = stills | {frame_stem(file, None): 2 for file in pictures if may_be_clip(file)}
    return any(understand(stem, images, same_name=False) for stem in stills for images in (stills, clips))


def _only_one(folder: Path, names: Sequence[str]) -> Path | None:
    """The sub-folder of one of these names; of several, the one that holds pictures."""
    found = [path for name, path in sub_folders(folder).items() if name in names]
    if len(found) > 1:
        found = [path for path in found if _holds_pictures(path)] or found[:1]
    if len(found) > 1:
        one, other, *_ = found
        raise DatasetError(f"{folder} can be read in two ways: by {one.name}/, or by {other.name}/; rename one of them")
    return found[0] if found else None


def _holds_pictures(folder: Path) -> bool:
    return any(any(map(is_picture, _files(place))) for place in (folder, *_class_folders(folder).values()))


def _class_folders(folder: Path) -> dict[Label, Path]:
    inside = sub_folders(folder)
    return {label: inside[label] for label in CLASSES if label in inside}


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def _nothing_found(root: Path) -> str:
    """What was expected, and where it is if it lies a level above or below."""
    message = f"{root} lacks the folders images/, masks/"
    for other in (*sub_folders(root).values(), root.resolve().parent):
        try:
            is_one = bool(_apart(other) or _by_class(other) or (other.parent == root and _side_by_side(other)))
        except (DatasetError, OSError):
            continue
        if is_one:
            return f"{message}; {other} can be read: give that folder"
    pictures = sum(map(is_picture, _files(root)))
    lone = f"; its {pictures} images have no masks: name them such as a_mask.png for a.png" if pictures else ""
    return (
        f"{message}; give the folder that holds them, or one of images with masks beside them (a.png, a_mask.png); "
        f"folders benign/, malignant/, normal/ may lie around either{lone}"
    )
