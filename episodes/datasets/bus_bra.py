"""BUS-BRA (Gomez-Flores et al. 2024, doi 10.1002/mp.16812)."""

from dataclasses import replace
from pathlib import Path

from episodes.datasets.files import (
    by_stem,
    find_folders,
    find_mask,
    image_files,
    leave_out_unused_masks,
    without_copies,
)
from episodes.datasets.tables import Row, find_row, key_rows, parse_label, read_table, report_rows_without_image
from episodes.records import Label, Record

PUBLISHED = {"benign": 1268, "malignant": 607, "patients": 1064}

_CLASSES: tuple[Label, ...] = ("benign", "malignant")
# Not Width and Height, which are wrong for four images.
_FACTS = ("Histology", "BIRADS", "Device", "Side")


def read(root: Path) -> list[Record]:
    """Read `Images/bus_0001-l.png`, `Masks/mask_0001-l.png`, `bus_data.csv` and the official partitions.

    The split is the image's fold in `5-fold-cv.csv`; its fold in `10-fold-cv.csv` is the extra `10-fold`.
    Both files are optional, and an image to which they give no fold has none.

    Raises:
        DatasetError: if a folder or the table is missing; or, as a complaint, the mask or the row of an image, or if
            a label is unknown.
    """
    image_folder, mask_folder = find_folders(root, ("Images", "Masks"))
    table = root / "bus_data.csv"
    rows = key_rows(read_table(table, ("ID", "Case", "Pathology", *_FACTS)), "ID", table)
    five_folds, ten_folds = (_read_folds(root / f"{count}-fold-cv.csv") for count in (5, 10))
    images = by_stem(without_copies(image_files(image_folder)))
    masks = by_stem(without_copies(image_files(mask_folder)))
    leave_out_unused_masks(masks, [_mask_stem(stem) for stem in images])
    report_rows_without_image(rows, images, table)
    records = []
    for stem, image in images.items():
        record = _record(image, find_row(rows, image, table), find_mask(masks, _mask_stem(stem), image), table)
        if record:
            ten_fold = {"10-fold": ten_folds[stem]} if stem in ten_folds else {}
            records.append(replace(record, split=five_folds.get(stem), extra={**record.extra, **ten_fold}))
    return records


def _record(image: Path, row: Row | None, mask: Path | None, table: Path) -> Record | None:
    label = parse_label(row["Pathology"], image, table, _CLASSES) if row else None
    if row is None or mask is None or label is None:
        return None
    facts = {fact: row[fact] for fact in _FACTS}
    return Record("bus_bra", image, (mask,), label, patient=row["Case"], extra=facts)


def stated_sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Read what the table says of each image's size, which is wrong for four of them.

    Args:
        root: the folder that `read` reads.

    Returns:
        (H, W) keyed by the image's stem; none of images whose row states no size.
    """
    table = root / "bus_data.csv"
    rows = read_table(table)
    sizes = {row.get("ID", ""): (row.get("Height", ""), row.get("Width", "")) for row in rows}
    return {stem: (int(h), int(w)) for stem, (h, w) in sizes.items() if h.isdecimal() and w.isdecimal()}


def _mask_stem(image_stem: str) -> str:
    """Name the mask of an image.

    >>> _mask_stem("bus_0001-l")
    'mask_0001-l'
    """
    return f"mask_{image_stem.removeprefix('bus_')}"


def _read_folds(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    rows = key_rows(read_table(path, ("ID", "kFold")), "ID", path)
    return {stem: row["kFold"] for stem, row in rows.items() if row["kFold"].lower() not in ("", "nan")}
