"""BUS-BRA (Gomez-Flores et al. 2024, doi 10.1002/mp.16812)."""

from pathlib import Path

from episodes.datasets.layout import by_stem, find_folders, find_mask, image_files, leave_out_unused_masks
from episodes.datasets.tables import find_row, key_rows, parse_label, read_table, report_rows_without_image
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
        DatasetError: if a folder, the table, a mask, or an image's row is missing, or a label is unknown.
    """
    image_folder, mask_folder = find_folders(root, ("Images", "Masks"))
    table = root / "bus_data.csv"
    rows = key_rows(read_table(table, ("ID", "Case", "Pathology", *_FACTS)), "ID", table)
    five_folds, ten_folds = (_read_folds(root / f"{count}-fold-cv.csv") for count in (5, 10))
    images = by_stem(image_files(image_folder))
    masks = by_stem(image_files(mask_folder))
    leave_out_unused_masks(masks, [_mask_stem(stem) for stem in images])
    report_rows_without_image(rows, images, table)
    records = []
    for stem, image in images.items():
        row = find_row(rows, image, table)
        extra = {fact: row[fact] for fact in _FACTS}
        record = Record(
            dataset="bus_bra",
            image=image,
            masks=(find_mask(masks, _mask_stem(stem), image),),
            label=parse_label(row["Pathology"], f"{table}, {stem}", _CLASSES),
            patient=row["Case"],
            split=five_folds.get(stem),
            extra=extra | {"10-fold": ten_folds[stem]} if stem in ten_folds else extra,
        )
        records.append(record)
    return records


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
