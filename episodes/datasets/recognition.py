"""Which known dataset lies in a folder, by the names in it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from episodes.datasets.layout import sub_folders
from episodes.phantoms.layouts import DESCRIPTION


def recognise(root: Path) -> str | None:
    """The reader of the known dataset that a folder holds in its own layout; None if it is none of them.

    The reader is the judge of whether the dataset is complete: what makes it unmistakable is enough here.
    """
    return next((reader for reader, holds in _HOLDS.items() if holds(root)), None)


def _holds_phantoms(root: Path) -> bool:
    return (root / DESCRIPTION).is_file()


def _holds_bus_uclm(root: Path) -> bool:
    return (root / "INFO.csv").is_file() and {"images", "masks"} <= sub_folders(root).keys()


def _holds_bus_bra(root: Path) -> bool:
    return (root / "bus_data.csv").is_file() and {"images", "masks"} <= sub_folders(root).keys()


def _holds_busi(root: Path) -> bool:
    folders = sub_folders(root)
    classes = ("benign", "malignant", "normal")
    return all(name in folders and any(folders[name].glob(f"{name} (*).png")) for name in classes)


def _holds_udiat(root: Path) -> bool:
    folders = sub_folders(root).keys()
    return {"original", "gt"} <= folders or {"benign", "malignant", "all_masks"} <= folders


def _holds_breast_usg(root: Path) -> bool:
    return any(any(folder.glob("case*_tumor.png")) for folder in (root, *sub_folders(root).values()))


_HOLDS: Mapping[str, Callable[[Path], bool]] = {
    "phantom": _holds_phantoms,
    "bus_uclm": _holds_bus_uclm,
    "bus_bra": _holds_bus_bra,
    "busi": _holds_busi,
    "udiat": _holds_udiat,
    "breast_usg": _holds_breast_usg,
}
