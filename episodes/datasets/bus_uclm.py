"""BUS-UCLM (Vallez et al. 2025, doi 10.1038/s41597-025-04562-3)."""

import re
from pathlib import Path

from episodes.datasets.layout import (
    by_stem,
    find_folders,
    find_mask,
    image_files,
    leave_out,
    leave_out_unused_masks,
)
from episodes.datasets.tables import (
    find_row,
    image_stem,
    key_rows,
    parse_label,
    read_table,
    report_rows_without_image,
)
from episodes.records import Label, Record

PUBLISHED = {"benign": 174, "malignant": 90, "normal": 419, "patients": 38}

_CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")
_FLAGS = ("Doppler", "Marks", "Combined")
_COPY = re.compile(r"(?P<stem>.+) \(\d+\)")


def read(root: Path) -> list[Record]:
    """Read `images/ALWI_000.png`, `masks/ALWI_000.png` and `INFO.csv`.

    The patient is the part of the name before `_`. The masks say the class by colour. Stray copies such as
    `SIBA_001 (1).png`, which the distribution on Kaggle carries, are left out.

    Raises:
        DatasetError: if a folder, the table, a mask, or an image's row is missing, or a label is unknown.
    """
    image_folder, mask_folder = find_folders(root, ("images", "masks"))
    table = root / "INFO.csv"
    named = key_rows(read_table(table, ("Image", "Label", *_FLAGS)), "Image", table)
    rows = {image_stem(name): row for name, row in named.items()}
    images = by_stem(_without_copies(image_folder))
    masks = by_stem(_without_copies(mask_folder))
    leave_out_unused_masks(masks, images)
    report_rows_without_image(rows, images, table)
    records = []
    for stem, image in images.items():
        row = find_row(rows, image, table)
        record = Record(
            dataset="bus_uclm",
            image=image,
            masks=(find_mask(masks, stem, image),),
            label=parse_label(row["Label"], f"{table}, {image.name}", _CLASSES),
            patient=stem.partition("_")[0],
            mask_format="colour",
            extra={flag: _yes_or_no(row[flag]) for flag in _FLAGS},
        )
        records.append(record)
    return records


def _without_copies(folder: Path) -> list[Path]:
    files = image_files(folder)
    stems = {file.stem for file in files}
    kept = []
    for file in files:
        copy = _COPY.fullmatch(file.stem)
        if copy and copy["stem"] in stems:
            leave_out(file, f"a stray copy of {copy['stem']}{file.suffix}")
        else:
            kept.append(file)
    return kept


def _yes_or_no(text: str) -> str:
    """Spell a flag in one way: one row of the distributed table says `Y`."""
    return {"y": "Yes", "n": "No"}.get(text.lower(), text)
