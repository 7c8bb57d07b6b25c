"""Exports of annotation tools, which hold no masks that are read here: recognised, so that a message can name them."""

import re
from collections.abc import Iterable
from pathlib import Path

from episodes.datasets.files import files_below, is_image_file
from episodes.records import frame_stem

_SNIFFED = 2**16  # bytes of a file, within which its tool's words stand

# Label Studio names a mask by its task, whatever its image is called.
_LABEL_STUDIO = re.compile(r"task-\d+-annotation-\d+-.*")
_YOLO_LINE = re.compile(r"\d+(?:[ \t]+-?\d*\.?\d+(?:[eE]-?\d+)?){4,}\s*")
_VOC_MASKS = ("segmentationclass", "segmentationobject")

MASK_FOLDERS = (*_VOC_MASKS, "labelsts")
"""Further folders of masks, as tools name them; they hold no images."""

# Of the JSON of a tool: words that stand in it, and whose they are.
_JSON = (
    (('"shapes"', '"points"'), "LabelMe's JSON (polygons)"),
    (('"shape_attributes"',), "VIA's JSON (regions)"),
    (('"from_name"', '"result"'), "Label Studio's JSON"),
    (('"images"', '"file_name"'), "COCO's JSON"),
)
_TO_MASKS = (
    "make a mask of each image from it, white (255) lesions on black (0), as PNG of the image's name and size, and put "
    "images and masks into folders images/ and masks/"
)


def name_foreign(root: Path) -> str | None:
    """Say which tool's export a folder looks like, by which file, and what to do; None if it looks like none."""
    found = _find(files_below(root), root)
    return f"it looks like {found}, which is not read: {_TO_MASKS}" if found else None


def name_label_studio(masks: Iterable[Path]) -> str | None:
    """Say that masks bear Label Studio's names, which tell nothing of their images; None if any has another name."""
    names = [frame_stem(path, None) for path in masks]
    if not names or not all(map(_LABEL_STUDIO.fullmatch, names)):
        return None
    return (
        f"its masks have the names that Label Studio gives ({names[0]}), which do not say of which image they are: "
        "name each as its image, by the tasks' numbers in Label Studio's JSON export"
    )


def _find(files: Iterable[Path], root: Path) -> str | None:
    """Find the first file that only one of the tools writes."""
    for file in files:
        where, suffix = file.relative_to(root), file.suffix.lower()
        if file.parent.name.lower() in _VOC_MASKS and is_image_file(file):
            return f"masks of Pascal VOC or CVAT ({where.parent}/, a colour for each class)"
        if suffix not in (".json", ".xml", ".txt") or not file.is_file():
            continue
        with file.open("rb") as opened:
            text = opened.read(_SNIFFED).decode(errors="replace")
        if suffix == ".json":
            for words, tool in _JSON:
                if all(word in text for word in words):
                    return f"{tool} ({where})"
        elif suffix == ".xml" and ("<annotation>" in text or "<annotations>" in text):
            return f"the XML of Pascal VOC or CVAT ({where})"
        elif suffix == ".txt" and text.strip() and all(map(_YOLO_LINE.fullmatch, text.strip().splitlines()[:20])):
            return f"YOLO's text files ({where})"
    return None
