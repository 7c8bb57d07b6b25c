"""BUS-UCLM (Vallez et al. 2025, doi 10.1038/s41597-025-04562-3)."""

import re
from pathlib import Path

from episodes.datasets.files import find_folders, image_stem
from episodes.datasets.tables import key_rows, labelled_pairs, read_table
from episodes.records import Label, Record

PUBLISHED = {"benign": 174, "malignant": 90, "normal": 419, "patients": 38}

_CLASSES: tuple[Label, ...] = ("benign", "malignant", "normal")
_FLAGS = ("Doppler", "Marks", "Combined")
_SPELLINGS = {"y": "Yes", "n": "No"}  # of a flag; one row of the distributed table says `Y`
# The patient whose images are smaller than their masks, and of other proportions, as published.
_ODD_MASKS = "HESN"


def read(root: Path) -> list[Record]:
    """Read `images/ALWI_000.png`, `masks/ALWI_000.png` and `INFO.csv`.

    The patient is the part of the name before `_`. The masks say the class by colour. Stray copies such as
    `SIBA_001 (1).png`, which the distribution on Kaggle carries, are left out.

    Raises:
        DatasetError: if a folder or the table is missing; or, as a problem, the mask or the row of an image, or if
            a label is unknown.
    """
    folders = find_folders(root, ("images", "masks"))
    table = root / "INFO.csv"
    rows = key_rows(read_table(table, ("Image", "Label", *_FLAGS)), "Image", table)
    return [
        Record(
            dataset="bus_uclm",
            image=image,
            masks=(mask,),
            label=label,
            patient=image.stem.partition("_")[0],
            mask_format="colour",
            extra={flag: _SPELLINGS.get(row[flag].lower(), row[flag]) for flag in _FLAGS},
            odd_masks=image.stem.partition("_")[0] == _ODD_MASKS,
        )
        for image, mask, label, row in labelled_pairs(folders, rows, "Label", table, _CLASSES)
    ]


def stated_sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Read each image's (H, W) by its stem, where the table states it; the HESN images are smaller than it says."""
    table = root / "INFO.csv"
    sizes = {
        image_stem(row["Image"]): row.get("Resolution", "") for row in read_table(table, ("Image",), ("Resolution",))
    }
    found = {stem: re.fullmatch(r"(\d+) ?x ?(\d+)", size) for stem, size in sizes.items()}
    return {stem: (int(size[2]), int(size[1])) for stem, size in found.items() if size}
