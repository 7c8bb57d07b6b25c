"""BUS-UCLM (Vallez et al. 2025, doi 10.1038/s41597-025-04562-3)."""

import re
from collections.abc import Mapping
from pathlib import Path

from episodes.datasets.files import (
    by_stem,
    find_folders,
    find_mask,
    image_files,
    leave_out_unused_masks,
    without_copies,
)
from episodes.datasets.tables import (
    Row,
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


def read(root: Path) -> list[Record]:
    """Read `images/ALWI_000.png`, `masks/ALWI_000.png` and `INFO.csv`.

    The patient is the part of the name before `_`. The masks say the class by colour. Stray copies such as
    `SIBA_001 (1).png`, which the distribution on Kaggle carries, are left out.

    Raises:
        DatasetError: if a folder or the table is missing; or, as a complaint, the mask or the row of an image, or if
            a label is unknown.
    """
    image_folder, mask_folder = find_folders(root, ("images", "masks"))
    table = root / "INFO.csv"
    named = key_rows(read_table(table, ("Image", "Label", *_FLAGS)), "Image", table)
    rows = {image_stem(name): row for name, row in named.items()}
    images = by_stem(without_copies(image_files(image_folder)))
    masks = by_stem(without_copies(image_files(mask_folder)))
    leave_out_unused_masks(masks, images)
    report_rows_without_image(rows, images, table)
    found = [_record(image, find_row(rows, image, table), masks, table) for image in images.values()]
    return [record for record in found if record]


def _record(image: Path, row: Row | None, masks: Mapping[str, Path], table: Path) -> Record | None:
    mask = find_mask(masks, image.stem, image)
    label = parse_label(row["Label"], image, table, _CLASSES) if row else None
    if row is None or mask is None or label is None:
        return None
    return Record(
        dataset="bus_uclm",
        image=image,
        masks=(mask,),
        label=label,
        patient=image.stem.partition("_")[0],
        mask_format="colour",
        extra={flag: _yes_or_no(row[flag]) for flag in _FLAGS},
    )


def stated_sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Read what the table says of each image's size; the HESN images are smaller than it says.

    Args:
        root: the folder that `read` reads.

    Returns:
        (H, W) keyed by the image's stem; none of images whose row states no size.
    """
    sizes = {image_stem(row["Image"]): row.get("Resolution", "") for row in read_table(root / "INFO.csv", ("Image",))}
    found = {stem: re.fullmatch(r"(\d+) ?x ?(\d+)", size) for stem, size in sizes.items()}
    return {stem: (int(size[2]), int(size[1])) for stem, size in found.items() if size}


def _yes_or_no(text: str) -> str:
    """Spell a flag in one way: one row of the distributed table says `Y`."""
    return {"y": "Yes", "n": "No"}.get(text.lower(), text)
