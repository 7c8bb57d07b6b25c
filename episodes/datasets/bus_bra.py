"""BUS-BRA (Gomez-Flores et al. 2024, doi 10.1002/mp.16812)."""

from pathlib import Path

from episodes.datasets.files import find_folders
from episodes.datasets.patients import patient_name
from episodes.datasets.tables import is_missing, key_rows, labelled_pairs, read_table
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
        DatasetError: if a folder or the table is missing; or, as a problem, the mask or the row of an image, or if a
            label is unknown.
    """
    folders = find_folders(root, ("Images", "Masks"))
    table = root / "bus_data.csv"
    rows = key_rows(read_table(table, ("ID", "Case", "Pathology", *_FACTS)), "ID", table)
    five_folds, ten_folds = (_read_folds(root / f"{count}-fold-cv.csv") for count in (5, 10))
    records = []
    for image, mask, label, row in labelled_pairs(folders, rows, "Pathology", table, _CLASSES, _mask_stem):
        extra = {fact: row[fact] for fact in _FACTS}
        if image.stem in ten_folds:
            extra["10-fold"] = ten_folds[image.stem]
        fold = five_folds.get(image.stem)
        patient = patient_name(row["Case"], f"{table}, {image.name}")
        records.append(Record("bus_bra", image, (mask,), label, patient, split=fold, extra=extra))
    return records


def stated_sizes(root: Path) -> dict[str, tuple[int, int]]:
    """Read each image's (H, W) by its stem, where the table states it; for four images it is wrong."""
    table = root / "bus_data.csv"
    rows = read_table(table, optional=("ID", "Height", "Width"))
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
    return {stem: row["kFold"] for stem, row in rows.items() if not is_missing(row["kFold"])}
