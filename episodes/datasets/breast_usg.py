"""BrEaST, Breast-Lesions-USG (Pawlowska et al. 2024, doi 10.1038/s41597-024-02984-z), on TCIA."""

import re
from pathlib import Path

from episodes.datasets.files import (
    find_lesion_masks,
    images_by_stem,
    leave_out,
    leave_out_masks_without_image,
    sub_folders,
)
from episodes.datasets.tables import find_row, key_rows, parse_label, read_table, report_rows_without_image
from episodes.errors import DatasetError
from episodes.records import Label, Record

PUBLISHED = {"benign": 154, "malignant": 98, "normal": 4, "patients": 256}

_CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")
_MASK = re.compile(r"(?P<stem>case\d+)_(?P<kind>tumor|other)\d*")
# Pixel_size is kept as it is spelt: the dataset does not state its unit in the table.
_FACTS = ("BIRADS", "Diagnosis", "Verification", "Pixel_size", "Age")


def read(root: Path) -> list[Record]:
    """Read `case001.png`, `case001_tumor.png` and the clinical table (`.xlsx`, or saved as `.csv`).

    The images may lie in a sub-folder beside the table, as in the archive. `_otherN` masks outline findings
    other than the lesion and are left out. Each case is a patient. Normals have no mask.

    Raises:
        DatasetError: if the images or the table are missing; or, as a problem, a row or the mask of a lesion, or if
            a label is unknown.
    """
    folder = _find_images(root)
    images, masks = _sort_files(folder)
    table = _find_table(root, folder)
    named = (row for row in read_table(table, ("Image_filename", "Classification"), _FACTS) if row["Image_filename"])
    rows = key_rows(named, "Image_filename", table)
    report_rows_without_image(rows, images, table)
    records = []
    for stem, image in images.items():
        row = find_row(rows, image, table)
        label = parse_label(row["Classification"], image, table, _CLASSES) if row else None
        found = find_lesion_masks(masks, image, label, "_tumor") if label else None
        if row and label and found is not None:
            extra = {fact: row[fact] for fact in _FACTS if row.get(fact)}
            records.append(Record("breast_usg", image, found, label, patient=stem, extra=extra))
    return records


def _find_images(root: Path) -> Path:
    for folder in (root, *sub_folders(root).values()):
        if any(folder.glob("case*.png")):
            return folder
    raise DatasetError(f"{root}: there are no images case001.png, ...; give the folder that holds them")


def _find_table(root: Path, folder: Path) -> Path:
    """Find the clinical table in the root, or beside the folder of images."""
    for place in (root, folder, folder.resolve().parent):
        for suffix in (".xlsx", ".csv"):
            tables = [path for path in place.glob(f"*{suffix}") if not path.name.startswith((".", "~$"))]
            if len(tables) > 1:
                raise DatasetError(f"{place}: several {suffix} tables; keep the clinical data alone")
            if tables:
                return tables[0]
    raise DatasetError(
        f"{root}: the table of clinical data (.xlsx) is missing; put it beside the images or their folder"
    )


def _sort_files(folder: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Key the images, and the masks of their lesions, by the image's stem."""
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = {}
    for stem, file in images_by_stem(folder).items():
        mask = _MASK.fullmatch(stem)
        if re.fullmatch(r"case\d+", stem):
            images[stem] = file
        elif mask is None:
            leave_out(file, "neither an image caseN nor a mask caseN_tumor")
        elif mask["kind"] == "other":
            leave_out(file, "a mask of another finding than the lesion")
        else:
            masks.setdefault(mask["stem"], []).append(file)
    leave_out_masks_without_image(masks, images)
    return images, masks
