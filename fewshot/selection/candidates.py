"""The images that may be chosen, and of which patients they are."""

import logging
from collections.abc import Mapping
from pathlib import Path

from episodes.dicom import is_dicom, read_facts
from episodes.datasets.folder import pseudonyms
from episodes.datasets.folder_layout import TABLE, Picture
from episodes.datasets.folder_parts import IMAGE_FOLDERS
from episodes.datasets.pictures import named_stem
from episodes.datasets.tables import Row, parse_label, read_table
from episodes.errors import DatasetError, UserError
from episodes.records import Record, frame_stem
from fewshot.prediction.inputs import Input, Inputs
from fewshot.prediction.spacings import parse_spacing

logger = logging.getLogger(__name__)


def find_candidates(inputs: Inputs, table: Path | None = None) -> dict[Input, Record]:
    """What is known of images that have no masks yet.

    A table `metadata.csv` beside the images, or beside their folder `images/`, is read as the reader `folder` reads it:
    `patient`, `spacing_mm`, and `label`, of which `normal` leaves an image out, since it shows no lesion to outline.
    DICOM files tell their patients apart as well, under a pseudonym. Of what is left each file is a patient of its own.

    Args:
        inputs: the images.
        table: another table.

    Returns:
        Images, in their order, and their records.

    Raises:
        UserError: if the table cannot be read, or no image is left.
    """
    table = table or _beside(inputs.root)
    rows = {} if table is None else {named_stem(row["image"]): row for row in read_table(table, ("image",))}
    pictures = {picture.path: picture for picture in map(_looked_at, {item.path for item in inputs.items})}
    patients = pseudonyms(pictures.values())
    found = {}
    for item in inputs.items:
        row, facts = _row_of(item, rows), pictures[item.path].facts
        label = parse_label(row["label"], item.path, table or Path(TABLE)) if row.get("label") else "unknown"
        if label is None or label == "normal":
            continue
        patient = row.get("patient") or patients.get(item.path) or item.image
        stated = facts.spacing if facts else None
        spacing = parse_spacing(row["spacing_mm"], f"{table}, {item.image}") if row.get("spacing_mm") else stated
        found[item] = Record("images", item.path, (), label, patient, spacing=spacing, frame=item.frame)
    if left_out := len(inputs.items) - len(found):
        logger.info("%d images are left out: %s labels them normal, so they show no lesion", left_out, table)
    if not found:
        raise UserError(f"{table}: labels every image normal, so there is none to outline a lesion in")
    _say_what_is_known(found, rows, patients)
    return found


def _beside(root: Path) -> Path | None:
    """The table that belongs to a folder of images, if it has one."""
    places = [root, *([root.parent] if root.resolve().name.lower() in IMAGE_FOLDERS else [])]
    return next((place / TABLE for place in places if (place / TABLE).is_file()), None)


def _row_of(item: Input, rows: Mapping[str, Row]) -> Row:
    """The table's row of a frame, else of its file; an empty one, if there is neither."""
    return rows.get(frame_stem(item.path, item.frame)) or rows.get(frame_stem(item.path, None)) or {}


def _looked_at(file: Path) -> Picture:
    """A file, and what its header says if it is DICOM; one that cannot be read is found out when it is decoded."""
    try:
        facts = read_facts(file) if is_dicom(file) else None
    except (DatasetError, OSError):
        facts = None
    return Picture(file, None, 1, {}, facts)


def _say_what_is_known(found: Mapping[Input, Record], rows: Mapping[str, Row], patients: Mapping[Path, str]) -> None:
    unnamed = [item for item in found if not (_row_of(item, rows).get("patient") or item.path in patients)]
    if unnamed:
        of = "the patients are" if len(unnamed) == len(found) else f"the patients of {len(unnamed)} images are"
        logger.info("%s not known: only images that show the same are taken to be of one", of)
