"""`predictions.csv`: a row per image, added once its pictures are written, so that a killed prediction goes on."""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO
from math import isnan
from pathlib import Path

from episodes.errors import StorageError, UserError
from episodes.files import write_text

Row = Mapping[str, str]

COLUMNS = (
    *("image", "frame", "mask", "width", "height"),
    *("area_px", "area_mm2", "components", "coverage", "mean_confidence", "lesion_confidence", "novelty"),
    *("p_normal", "p_benign", "p_malignant", "dice", "dice_full", "flags", "reason", "inputs"),
)
"""Of every table; empty where nothing is known. `inputs` is a hash of all files that a row was made from."""


def key_of(row: Row) -> tuple[str, int]:
    """By which a row is known: the image, and which of its frames, 0 of a single picture."""
    return row["image"], int(row["frame"] or 0)


def read_rows(path: Path) -> list[Row]:
    """The rows of a table, of which there may be none yet; what a killed process left of a line is left out.

    Raises:
        UserError: if it is no such table.
    """
    if not path.exists():
        return []
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        header, *lines = csv.reader(StringIO(whole, newline=""), strict=True) if whole else (list(COLUMNS),)
        rows: list[Row] = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        if tuple(header) != COLUMNS or not all(row["frame"].isdecimal() or not row["frame"] for row in rows):
            raise ValueError("other columns")
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: is no table of `fewshot predict` ({error}); remove it, or add --overwrite") from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table whole, unless it is there already.

    Raises:
        StorageError: if it cannot be written.
    """
    text = csv_text([COLUMNS, *(tuple(row[column] for column in COLUMNS) for row in rows)])
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def add_row(path: Path, row: Row) -> None:
    """Write one more row, and hand it to the system at once.

    Raises:
        StorageError: if it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(csv_text([tuple(row[column] for column in COLUMNS)]))
    except OSError as error:
        raise StorageError.of(path, error) from error


def number(value: float | None, digits: int = 6) -> str:
    """A number as tables have it; empty for one that is not known or not defined.

    >>> number(0.5), number(float("nan")), number(None), number(1 / 3)
    ('0.500000', '', '', '0.333333')
    """
    return "" if value is None or isnan(value) else f"{value:.{digits}f}"


def csv_text(lines: Iterable[Iterable[object]]) -> str:
    """Lines of values as CSV."""
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
