"""BUSI, Breast Ultrasound Images (Al-Dhabyani et al. 2020, doi 10.1016/j.dib.2019.104863)."""

import re
from pathlib import Path

from episodes.datasets.files import (
    find_folders,
    find_lesion_masks,
    image_files,
    leave_out,
    leave_out_copy,
    leave_out_masks_without_image,
)
from episodes.records import Label, Record

PUBLISHED = {"benign": 437, "malignant": 210, "normal": 133}

_CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")
_MASK = re.compile(r"(?P<stem>.+?)_mask(_\d+)?")


def read(root: Path) -> list[Record]:
    """Read the folders `benign/`, `malignant/` and `normal/`.

    They hold images `benign (1).png` and masks `benign (1)_mask.png`, `benign (1)_mask_1.png`, ...: the
    lesion is the union of an image's masks. The dataset has no patient ids: each image is a patient of its
    own until near-duplicates are grouped (`episodes.curation.near_duplicates.group_patients`).

    Raises:
        DatasetError: if a class folder, or the mask of a lesion image (a problem), is missing.
    """
    folders = find_folders(root, _CLASSES)
    return [record for folder, label in zip(folders, _CLASSES, strict=True) for record in _read_class(folder, label)]


def _read_class(folder: Path, label: Label) -> list[Record]:
    images: list[Path] = []
    masks: dict[str, list[Path]] = {}
    files = image_files(folder)
    stems = {file.stem for file in files}
    for file in files:
        mask = _MASK.fullmatch(file.stem)
        if mask:
            masks.setdefault(mask["stem"], []).append(file)
        elif re.fullmatch(rf"{label} \(\d+\)", file.stem):
            images.append(file)
        elif not leave_out_copy(file, stems):
            leave_out(file, f"neither an image '{label} (N)' nor a mask '{label} (N)_mask'")
    leave_out_masks_without_image(masks, (image.stem for image in images))
    found = ((image, find_lesion_masks(masks, image, label, "_mask")) for image in images)
    return [Record("busi", image, drawn, label, patient="") for image, drawn in found if drawn is not None]
