"""Tables that come with datasets, CSV or Excel, as rows of text; and the labels and images that they name."""

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

from episodes.datasets.layout import IMAGE_SUFFIXES, log
from episodes.errors import DatasetError
from episodes.records import LABELS, Label

Row = Mapping[str, str]


def read_table(path: Path, required: Sequence[str] = ()) -> list[Row]:
    """Read a table whose first row names the columns.

    Args:
        path: an `.xlsx`, of which the first sheet is read; anything else is CSV separated by commas,
            semicolons or tabs, in UTF-8 with or without a byte-order mark.
        required: columns that have to be there.

    Returns:
        One mapping of column to stripped text per row; empty rows are dropped.

    Raises:
        DatasetError: if the file is missing or damaged, a required column is missing, or a row has more or
            fewer values than there are columns.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing; restore it from the original dataset")
    is_excel = path.suffix.lower() == ".xlsx"
    lines = read_excel(path) if is_excel else read_csv(path)
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if any(line)]
    if not numbered:
        raise DatasetError(f"{path} is empty; restore it from the original dataset")
    if is_excel:  # a sheet is as wide as its widest row, formatted but empty cells included
        width = max(i for i, value in enumerate(numbered[0][1], start=1) if value)
        numbered = [(number, line[:width]) for number, line in numbered]
    (_, header), *body = numbered
    for column in required:
        if column not in header:
            raise DatasetError(f"{path}: the column {column!r} is missing; found {', '.join(header)}")
    for number, line in body:
        if len(line) != len(header):
            raise DatasetError(f"{path}, row {number}: {len(line)} values for {len(header)} columns")
    return [dict(zip(header, line, strict=True)) for _, line in body]


def read_csv(path: Path) -> list[list[str]]:
    """Read a CSV file to stripped text, whatever it is separated by.

    Raises:
        DatasetError: if it is not UTF-8, or no CSV.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        lines = list(csv.reader(StringIO(text, newline=""), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} is no readable table ({error}); save it as CSV in UTF-8") from error
    return [[value.strip() for value in line] for line in lines]


def read_excel(path: Path) -> list[list[str]]:
    """Read the first sheet of an Excel file to stripped text; whole numbers have no decimal point.

    Raises:
        DatasetError: if openpyxl is not installed, or the file is damaged.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DatasetError(
            f"{path}: Excel tables need openpyxl: run `pip install openpyxl`, or save the table as .csv"
        ) from error
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
        rows = list(workbook.worksheets[0].iter_rows(values_only=True))
        workbook.close()
    except Exception as error:  # whatever its zip and XML readers raise on a damaged file
        raise DatasetError(f"{path} is no readable Excel table ({error}); restore the original") from error
    return [[_cell_text(value) for value in row] for row in rows]


def _cell_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def key_rows(rows: Iterable[Row], column: str, path: Path) -> dict[str, Row]:
    """Key rows by one column of the table at `path`.

    Raises:
        DatasetError: if a key comes twice.
    """
    keyed: dict[str, Row] = {}
    for row in rows:
        if row[column] in keyed:
            raise DatasetError(f"{path}: {column} {row[column]!r} comes twice; remove one of the rows")
        keyed[row[column]] = row
    return keyed


def image_stem(name: str) -> str:
    """Take the stem of an image that a table names with or without its folder and suffix.

    >>> image_stem("images/scan.01.PNG"), image_stem("scan.01")
    ('scan.01', 'scan.01')
    """
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def find_row(rows: Mapping[str, Row], image: Path, path: Path) -> Row:
    """Look up the row of an image, by its stem, in the table at `path`.

    Raises:
        DatasetError: if there is none.
    """
    if image.stem not in rows:
        raise DatasetError(f"{image}: {path} has no row for it; add the row or remove the image")
    return rows[image.stem]


def report_rows_without_image(rows: Mapping[str, Row], images: Collection[str], path: Path) -> None:
    """Tell the user of rows, keyed by stem, that name no image: a partial copy is read, but not silently."""
    absent = sorted(rows.keys() - set(images))
    if absent:
        log.warning("%s: left out: %d of %d rows name no image (first: %s)", path, len(absent), len(rows), absent[0])


def parse_label(text: str, where: str, allowed: Sequence[Label] = LABELS) -> Label:
    """Read a label as a table spells it.

    Args:
        text: such as `Benign`.
        where: the file and the row, for the message.
        allowed: the labels that the dataset knows.

    Raises:
        DatasetError: if it is none of those.

    >>> parse_label(" Benign", "INFO.csv, ALWI_000.png")
    'benign'
    """
    for label in allowed:
        if text.strip().lower() == label:
            return label
    raise DatasetError(f"{where}: the label {text!r} is unknown; write one of {', '.join(allowed)}")
