"""Any folder of images and masks, such as a clinic's own: the layout to convert a dataset to."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from episodes.datasets.layout import by_stem, find_folders, find_mask, image_files, leave_out_unused_masks
from episodes.datasets.tables import (
    Row,
    find_row,
    image_stem,
    key_rows,
    parse_label,
    read_table,
    report_rows_without_image,
)
from episodes.errors import DatasetError
from episodes.records import Record

_COLUMNS = ("image", "label", "patient", "spacing_mm")


def read(root: Path, dataset: str = "folder") -> list[Record]:
    """Read `images/` and `masks/` with equal stems, and `metadata.csv` if it is there.

    The table's columns are `image` (with or without suffix), `label`, `patient` and `spacing_mm` (millimetres
    per pixel: one number, or row and column as `0.1 x 0.12`); all but `image` may be missing or empty, and
    further ones become extra facts. Without a label a lesion is of unknown kind, without a patient the image
    is its own.

    Args:
        root: the folder that holds `images/` and `masks/`.
        dataset: the name that the records' dataset gets.

    Raises:
        DatasetError: if a folder is missing, an image has no mask and is not labelled normal, the table has
            no row for an image, or a value cannot be read.
    """
    image_folder, mask_folder = find_folders(root, ("images", "masks"))
    images = by_stem(image_files(image_folder))
    masks = by_stem(image_files(mask_folder))
    leave_out_unused_masks(masks, images)
    table = root / "metadata.csv"
    if not table.exists():
        return [_record(dataset, image, masks, {}, table) for image in images.values()]
    named = ({**row, "image": image_stem(row["image"])} for row in read_table(table, ("image",)))
    rows = key_rows(named, "image", table)
    report_rows_without_image(rows, images, table)
    return [_record(dataset, image, masks, find_row(rows, image, table), table) for image in images.values()]


def _record(dataset: str, image: Path, masks: Mapping[str, Path], row: Row, table: Path) -> Record:
    where = f"{table}, {image.name}"
    label = parse_label(row.get("label") or "unknown", where)
    has_no_mask = label == "normal" and image.stem not in masks
    return Record(
        dataset=dataset,
        image=image,
        masks=() if has_no_mask else (find_mask(masks, image.stem, image),),
        label=label,
        patient=row.get("patient") or image.stem,
        spacing=_parse_spacing(row.get("spacing_mm", ""), where),
        extra={column: value for column, value in row.items() if column not in _COLUMNS},
    )


def _parse_spacing(text: str, where: str) -> tuple[float, float] | None:
    """Read millimetres per pixel.

    >>> _parse_spacing("0.1", ""), _parse_spacing("0.1 x 0.12", ""), _parse_spacing("", "")
    ((0.1, 0.1), (0.1, 0.12), None)
    """
    if not text:
        return None
    try:
        numbers = [float(number) for number in text.replace("x", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(isfinite(number) and number > 0 for number in numbers):
        raise DatasetError(f"{where}: spacing_mm {text!r} is no size; write such as 0.1 or 0.1 x 0.12")
    return numbers[0], numbers[-1]
