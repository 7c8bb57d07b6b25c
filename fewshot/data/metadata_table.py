"""A `metadata.csv` for a user's own folder, in which what is known stands already."""

import csv
from collections.abc import Sequence
from io import StringIO

from episodes.datasets.folder import COLUMNS, pseudonyms
from episodes.datasets.folder_layout import TABLE, Picture
from episodes.errors import UserError
from episodes.records import Record, frame_stem
from episodes.survey import Survey


def metadata_csv(survey: Survey) -> str:
    """The table, with a row for each image; labels, patients and spacings that are not known are left to fill in.

    Raises:
        UserError: if the folder holds a dataset that has another table.
    """
    if survey.layout is None:
        raise UserError(f"{survey.root}: holds {survey.reader}, which has its own tables and reads no {TABLE}")
    records = {record.stem: record for record in survey.records}
    patients = pseudonyms(survey.layout.pictures)
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for picture in survey.layout.pictures:
        for frame in _frames(picture):
            record = records.get(frame_stem(picture.path, frame))
            label = record.label if record else picture.label
            known = "" if label in (None, "unknown") else label
            name = picture.path.name if frame is None else frame_stem(picture.path, frame)
            table.writerow((name, known, patients.get(picture.path, ""), _spacing(record)))
    return text.getvalue()


def _frames(picture: Picture) -> Sequence[int | None]:
    return sorted(frame for frame in picture.masks if frame is not None) if picture.is_clip else [None]


def _spacing(record: Record | None) -> str:
    return " x ".join(f"{number:.6g}" for number in record.spacing) if record and record.spacing else ""
