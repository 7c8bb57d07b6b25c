"""UDIAT, Dataset B (Yap et al. 2018, doi 10.1109/JBHI.2017.2731873), in both layouts that circulate."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from episodes.datasets.files import (
    NEGATIONS,
    find_folders,
    find_mask,
    image_files,
    image_stem,
    images_by_stem,
    leave_out,
    leave_out_unused_masks,
    says,
    sub_folders,
    without_copies,
)
from episodes.datasets.problems import report_problem
from episodes.datasets.tables import read_excel
from episodes.records import Label, Record

PUBLISHED = {"benign": 110, "malignant": 53}

_CLASSES: tuple[Label, ...] = ("benign", "malignant")


def read(root: Path) -> list[Record]:
    """Read `original/`, `GT/` and a list of the cases; or `Benign/`, `Malignant/` and `all_masks/`.

    The list is every `.xlsx`, `.csv` or `.txt` beside the folders whose lines name a case and its class, as
    `DatasetB.xlsx` does, or whose own name says the class of all its cases, as `benign.txt`; as a whole word:
    `non-malignant.txt` says none. Cases are numbers: `1`, `000001` and `000001.png` are the same. In the second layout
    masks that `all_masks/` lacks are taken from `Malignant_mask/`. There are no patient ids: each image is a patient.

    Raises:
        DatasetError: if a folder is missing; or, as a problem, a mask, or if lists leave a case out, name
            it twice or disagree.
    """
    folders = find_folders(root, ("original", "GT"), ("Benign", "Malignant", "all_masks"))
    if len(folders) == 2:
        return _read_listed(root, *folders)
    return _read_by_class(root, *folders)


def _read_listed(root: Path, image_folder: Path, mask_folder: Path) -> list[Record]:
    images, masks = images_by_stem(image_folder), images_by_stem(mask_folder)
    leave_out_unused_masks(masks, images)
    labels = _read_lists(root, images)
    unlisted = sorted(images.keys() - labels.keys())
    for stem in unlisted:
        message = (
            f"{images[stem]}: no list of cases in {root} names it ({len(unlisted)} such); restore "
            "DatasetB.xlsx, or write benign.txt and malignant.txt with a case per line"
        )
        report_problem("missing row", images[stem], message)
    return _records([(images[stem], label) for stem, label in labels.items() if label], masks)


def _read_by_class(root: Path, benign: Path, malignant: Path, all_masks: Path) -> list[Record]:
    folders = zip((benign, malignant), _CLASSES, strict=True)
    images = [(image, label) for folder, label in folders for image in without_copies(image_files(folder))]
    stems = {image.stem for image, _ in images}
    masks = images_by_stem(all_masks)
    leave_out_unused_masks(masks, stems)
    if further := sub_folders(root).get("malignant_mask"):
        further_masks = images_by_stem(further)
        leave_out_unused_masks(further_masks, stems)
        if masks.keys() & further_masks.keys():
            leave_out(further, f"the masks that are in {all_masks.name}/ as well")
        masks = further_masks | masks
    return _records(images, masks)


def _records(images: Iterable[tuple[Path, Label]], masks: Mapping[str, Path]) -> list[Record]:
    found = [(image, find_mask(masks, image.stem, image), label) for image, label in images]
    return [Record("udiat", image, (mask,), label, patient="") for image, mask, label in found if mask]


def _read_lists(root: Path, images: Mapping[str, Path]) -> dict[str, Label | None]:
    """Read the label of each image from the lists beside the folders, keyed by stem; None where they differ."""
    stems = {_case(stem): stem for stem in images}
    labels: dict[str, Label | None] = {}
    for path in sorted(root.iterdir()):
        if path.suffix.lower() not in (".xlsx", ".csv", ".txt") or path.name.startswith((".", "~$")):
            continue
        named = [label for label in _CLASSES if says(path.stem, label)]
        seen: set[str] = set()
        for cells in _read_lines(path):
            cases = [stems[_case(cell)] for cell in cells if _case(cell) in stems]
            words = list(pairwise(("", *map(str.lower, cells))))
            stated = [one for one in _CLASSES for before, word in words if word == one and before not in NEGATIONS]
            said = stated or named
            if not cases or len(said) != 1:
                continue
            case = cases[0]
            differs = labels.setdefault(case, said[0]) not in (said[0], None)
            if differs or case in seen:
                how = "as benign and as malignant" if differs else "twice"
                report_problem("bad label", images[case], f"{path}: case {case} is listed {how}; mend the list")
                labels[case] = None
            seen.add(case)
    return labels


def _read_lines(path: Path) -> list[list[str]]:
    if path.suffix.lower() == ".xlsx":
        return read_excel(path)
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [[cell for cell in re.split(r"[\s,;]+", line) if cell] for line in text.splitlines()]


def _case(name: str) -> str:
    """Spell a case in one way.

    >>> _case("000012.png"), _case("12"), _case("012")
    ('12', '12', '12')
    """
    stem = image_stem(name)
    return str(int(stem)) if stem.isdecimal() else stem
