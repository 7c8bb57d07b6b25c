"""Tables that come with datasets, CSV or Excel, as rows of text; and the labels and images that they name."""

import codecs
import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TypeVar
from zipfile import ZipFile

from episodes.datasets.files import find_mask, image_stem, images_by_stem, leave_out_unused_masks
from episodes.datasets.problems import listed_problems, report_left_out, report_problem
from episodes.errors import DatasetError
from episodes.io.files import plain_cell
from episodes.names import composed
from episodes.records import LABELS, Label, frame_stem

TableRow = Mapping[str, str]
Line = TypeVar("Line", bound=Sequence[object])

# A table of 100,000 images and 30 columns has 3 million values in 20 MB.
MOST_BYTES = 128 * 2**20  # of a CSV file, or of what an Excel file says to unpack to
MOST_VALUES = 5_000_000


# With which UTF files begin that are not UTF-8; those of 32 bits first, as they begin with the mark of 16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # which Excel heeds as the first line
EXCEL = frozenset({".xlsx", ".xlsm"})

_MISSING = (
    {"na", "nan", "nat", "none", "null", "nil", "unk", "unknown", "missing", "undefined"}
    | {f"not{word}" for word in ("available", "known", "applicable", "stated")}
    | {"anon", "unbekannt", "keineangabe"}
    | {f"anonym{end}" for end in ("", "e", "ous", "ised", "ized", "isiert")}
)


def is_missing(text: str) -> bool:
    """Tell whether a cell says that nothing is known, as people and programs write that.

    >>> [is_missing(text) for text in ("", "NaN", "#N/A", "n.a.", "<NA>", "-", "?", "Unknown")].count(True)
    8
    >>> is_missing("0"), is_missing("Nan-01")
    (False, False)
    """
    return fold_heading(text) in _MISSING or not any(map(str.isalnum, text))


def fold_heading(text: str) -> str:
    """Spell a heading in one way, whatever its case, spaces and marks.

    >>> fold_heading("Patient ID") == fold_heading("patient_id") == fold_heading("PatientID")
    True
    """
    return "".join(filter(str.isalnum, composed(text).casefold()))


def read_table(path: Path, required: Sequence[str] = (), optional: Sequence[str] = ()) -> list[TableRow]:
    """Read a table whose first row names the columns.

    Args:
        path: an Excel file, of which the first sheet is read; anything else is CSV separated by commas, semicolons,
            tabs or bars, in UTF-8 or, as Excel's "Unicode text", in UTF-16.
        required: columns that have to be there; case, spaces and marks make no difference.
        optional: further columns that are known by a name.

    Returns:
        One mapping of column to stripped text per row, columns that are known under these names; empty rows and columns
        without a heading are dropped. A row of more or fewer values than there are columns is a problem.

    Raises:
        DatasetError: if the file is missing or damaged, or a column is missing or there twice.
    """
    return read_columns(path, dict.fromkeys((*required, *optional), ()), required)[0]


def read_columns(
    path: Path, columns: Mapping[str, Sequence[str]], required: Sequence[str] = ()
) -> tuple[list[TableRow], dict[str, str]]:
    """Read a table as `read_table` does, whose columns may be called in several ways.

    Of each known column the further headings are given, of which the first in the table counts. The rows are returned,
    and the heading of each known column that is there.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing; restore it from the original dataset")
    lines = read_excel(path) if path.suffix.lower() in EXCEL else read_csv(path)
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if any(line)]
    if not numbered:
        raise DatasetError(f"{path} is empty; restore it from the original dataset")
    (_, header), *body = numbered
    headings = _find_headings(header, columns, path)
    for column in required:
        if column not in headings:
            raise DatasetError(f"{path}: the column {column!r} is missing; found {', '.join(filter(None, header))}")
    names = {heading: column for column, heading in headings.items()}
    header = [names.get(heading, heading) for heading in header]
    for number, line in body:
        if len(line) != len(header):
            report_problem("bad row", path, f"{path}, row {number}: {len(line)} values for {len(header)} columns")
    found = (zip(header, line, strict=True) for _, line in body if len(line) == len(header))
    return [{column: text for column, text in row if column} for row in found], headings


def _find_headings(header: Sequence[str], columns: Mapping[str, Sequence[str]], path: Path) -> dict[str, str]:
    """Find the heading of each known column; two columns with one, or both with that of a known one, are an error."""
    spelt: dict[str, list[str]] = {}
    for heading in filter(None, header):
        spelt.setdefault(fold_heading(heading), []).append(heading)
    found = {}
    for column, others in columns.items():
        fitting = (fold for fold in map(fold_heading, (column, *others)) if fold in spelt)
        if (fold := next(fitting, None)) is not None:
            found[column] = spelt[fold][0]
    for headings in spelt.values():
        equal = {composed(heading).casefold() for heading in headings}
        if len(headings) > 1 and (len(equal) < len(headings) or headings[0] in found.values()):
            twice = " and ".join(map(repr, headings))
            raise DatasetError(f"{path}: a column is there twice ({twice}); remove or rename the one that is wrong")
    return found


def read_csv(path: Path) -> list[list[str]]:
    """Read a CSV file to stripped text, whatever it is separated by.

    Raises:
        DatasetError: if it is no text in UTF-8 or UTF-16, no CSV, or larger than any table of a dataset.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
        encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
        text = content.decode(encoding)
        if "\0" in text:
            raise ValueError("not a text file")
        if separator := _SEPARATOR_LINE.match(text):
            text = text[separator.end() :]
        delimiter = separator[1] if separator else _find_delimiter(text)
        lines = list(_no_more_than_fit(csv.reader(StringIO(text, newline=""), delimiter=delimiter)))
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f"{path} is no readable table ({error}); save it as CSV in UTF-8") from error
    return [[plain_cell(value.strip()) for value in line] for line in lines]


def _find_delimiter(text: str) -> str:
    """Find what parts the first line that is not empty into most columns, and the second where two do alike.

    What does not part the first parts nothing: of a single column, any mark may be in a file's name.
    """
    lines = (line for line in StringIO(text, newline=None) if line.strip(" \t\n,;|"))
    first = list(islice(lines, 2))
    widths = {mark: [len(line) for line in csv.reader(first, delimiter=mark)] for mark in ",;\t|"}
    return max(widths, key=lambda mark: widths[mark] if widths[mark][:1] > [1] else [])


def read_excel(path: Path) -> list[list[str]]:
    """Read the first sheet of an Excel file to stripped text, as wide as its first row; whole numbers have no point.

    Raises:
        DatasetError: if openpyxl is not installed, or the file is damaged, or larger than any table of a dataset, also
            where it is a small file that unpacks to a large one.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DatasetError(
            f"{path}: Excel tables need openpyxl: run `pip install openpyxl`, or save the table as .csv"
        ) from error
    try:
        with path.open("rb") as file:
            if sum(member.file_size for member in ZipFile(file).infolist()) > MOST_BYTES:
                raise ValueError(f"unpacks to more than {MOST_BYTES >> 20} MiB")
            workbook = load_workbook(file, read_only=True, data_only=True)
            # A cell may say that it is in row 1,048,576: openpyxl then gives all the empty rows before it.
            rows = list(_no_more_than_fit(workbook.worksheets[0].iter_rows(values_only=True)))
    except Exception as error:  # whatever its zip and XML readers raise on a damaged file
        raise DatasetError(f"{path} is no readable Excel table ({error}); restore the original") from error
    texts = [[_cell_text(value) for value in row] for row in rows]
    # A sheet is as wide as its widest row, formatted but empty cells included; the first row says what is meant.
    header: list[str] = next(filter(any, texts), [])
    width = max((place for place, text in enumerate(header, start=1) if text), default=0)
    return [[*row[:width], *[""] * (width - len(row))] for row in texts]


def _no_more_than_fit(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield lines for as long as all of their values together are no more than a dataset's table has."""
    n_values = 0
    for line in lines:
        n_values += 1 + len(line)
        if n_values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        yield line


def _cell_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def key_rows(rows: Iterable[TableRow], column: str, path: Path) -> dict[str, TableRow]:
    """Key the rows of the table at `path` by the stem of the image that a column names.

    Of two rows with the same name, which is a problem, the first counts.
    """
    names: set[str] = set()
    keyed: dict[str, TableRow] = {}
    for row in rows:
        if row[column] in names:
            report_problem("bad row", path, f"{path}: {column} {row[column]!r} comes twice; remove one of the rows")
        else:
            keyed[image_stem(row[column])] = row
        names.add(row[column])
    return keyed


def find_row(rows: Mapping[str, TableRow], image: Path, path: Path, *stems: str) -> TableRow | None:
    """Look up the row of an image in the table at `path`; None, and a problem, if there is none.

    The stems are those under which it may stand, the first first; by default that of the image.
    """
    for stem in stems or (frame_stem(image, None),):
        if stem in rows:
            return rows[stem]
    message = f"{image}: {path} has no row for it; add the row or remove the image"
    report_problem("missing row", image, message)
    return None


def report_rows_without_image(rows: Mapping[str, TableRow], images: Collection[str], path: Path) -> None:
    """Tell the user of rows, keyed by stem, that name no image: a partial copy is read, but not silently."""
    absent = sorted(rows.keys() - set(images))
    if listed_problems() is not None:
        for stem in absent:
            message = f"{path} has a row for {stem}, of which there is no image"
            report_left_out("row without image", Path(stem), message)
    elif absent:
        first = f"left out: {len(absent)} of {len(rows)} rows name no image (first: {absent[0]})"
        report_left_out("row without image", path, f"{path}: {first}")


def parse_label(text: str, image: Path, table: Path, allowed: Sequence[Label] = LABELS) -> Label | None:
    """Read the label of an image as a table spells it; None, and a problem, if it is none of those allowed.

    >>> parse_label(" Benign", Path("ALWI_000.png"), Path("INFO.csv"))
    'benign'
    """
    for label in allowed:
        if text.strip().lower() == label:
            return label
    message = f"{table}, {image.name}: the label {text!r} is unknown; write one of {', '.join(allowed)}"
    report_problem("bad label", image, message)
    return None


def labelled_pairs(
    folders: Sequence[Path],
    rows: Mapping[str, TableRow],
    column: str,
    table: Path,
    allowed: Sequence[Label],
    mask_stem: Callable[[str], str] = str,
) -> Iterator[tuple[Path, Path, Label, TableRow]]:
    """Yield each image of a folder with its mask in another, its label, and its row of a table.

    An image that lacks one of them is a problem; masks and rows without an image are left out. The folders are those of
    the images and of the masks. The rows, by the stem of their image, are of the table at `table`, whose column holds
    one of the labels `allowed`. `mask_stem` gives the stem of a mask for that of its image.
    """
    images, masks = map(images_by_stem, folders)
    leave_out_unused_masks(masks, map(mask_stem, images))
    report_rows_without_image(rows, images, table)
    for stem, image in images.items():
        row = find_row(rows, image, table)
        mask = find_mask(masks, mask_stem(stem), image)
        label = parse_label(row[column], image, table, allowed) if row else None
        if row and mask and label:
            yield image, mask, label, row
