"""The table beside a user's own images: which file it is, what its columns are called, and what its cells say."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from episodes.datasets.files import image_stem, leave_out
from episodes.datasets.patients import patient_name
from episodes.datasets.problems import report_left_out, report_problem
from episodes.datasets.tables import EXCEL, TableRow, fold_heading, is_missing, key_rows, read_columns
from episodes.errors import DatasetError
from episodes.images.spacing import Spacing, parse_spacing, spacing_doubt
from episodes.records import LABELS

TABLE = "metadata.csv"
COLUMNS = ("image", "label", "patient", "spacing_mm")

_FORMS = (".csv", ".tsv", ".txt", *sorted(EXCEL))
_NOT_READ = (".xls", ".ods", ".parquet", ".json", ".jsonl")
_OF_ANYTHING = (".txt", ".json", ".jsonl")  # tables only where they are called so
_NAMES = frozenset({"metadata", "metadaten", "metadonnees", "metadatos"})
# What `fewshot` writes beside a user's images.
_OWN = frozenset({"selected.csv", "predictions.csv", "failed.csv"})

# Further headings of each column, the more usual first: of two in one table the first counts. Case, spaces and marks
# make no difference.
_HEADINGS: Mapping[str, Sequence[str]] = {
    "image": (
        *("image file", "image filename", "image name", "image id", "image path", "images", "filename", "file"),
        *("file path", "path", "img", "img name"),
    ),
    "label": ("labels", "class", "class label", "image label"),
    "patient": (
        *("patient id", "patients", "patient number", "patient no", "patient nr", "patient code", "patient key", "pid"),
        *("subject", "subject id", "subject number", "participant", "participant id", "patient name"),
        # Whoever shares one of these is one patient, though a patient may have several.
        *("case", "case id", "case number", "study id", "study", "exam id", "examination id", "exam"),
    ),
    "spacing_mm": (
        *("spacing", "pixel spacing", "pixel spacing mm", "pixel size mm", "pixel size", "mm per pixel", "mm per px"),
        *("mm/px", "spacing mm/px", "pixel spacing mm/px", "pixel size mm/px"),
    ),
    # As `episodes.curation` knows them.
    "Doppler": (),
    "Marks": (),
    "Combined": (),
}
# Columns of labels only where every cell is one: they often hold findings in words.
_PERHAPS_LABELS = tuple(
    map(fold_heading, ("diagnosis", "pathology", "classification", "category", "lesion type", "tumor type", "type"))
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """A table of metadata."""

    path: Path  # of its file
    # By the stem of the image or frame that they name. `COLUMNS` are called so, and have no text where the table says
    # that nothing is known; further columns are as the table has them.
    rows: Mapping[str, TableRow]
    headings: Mapping[str, str]  # those of `COLUMNS` that there are, as the table calls them

    def source(self, column: str) -> str:
        """Name the table and what it calls a column, such as `metadata.csv, column patient_id`."""
        heading = self.headings[column]
        return self.path.name if heading.casefold() == column else f"{self.path.name}, column {heading}"

    def spacings(self, *, any_size: bool = False) -> dict[str, Spacing]:
        """Parse the pixel sizes, by the stem of image or frame; those that cannot be are told and left out."""
        found = {}
        doubts: dict[str, str] = {}
        for stem, row in self.rows.items():
            if not row.get("spacing_mm"):
                continue
            try:
                spacing = parse_spacing(row["spacing_mm"], f"{self.path}, {stem}: {self.headings['spacing_mm']}")
            except DatasetError as error:
                report_problem("bad value", Path(stem), str(error))
                continue
            doubt = "" if any_size else spacing_doubt(spacing)
            if doubt:
                doubts[stem] = doubt
            else:
                found[stem] = spacing
        report_doubtful_spacings(self.path, doubts)
        return found


def read_metadata(path: Path) -> Metadata:
    """Read a table whose rows say something of the image that they name; columns that nothing reads are noted.

    Raises:
        DatasetError: if it cannot be read, has no column of images, or has a column twice.
    """
    rows, headings = read_columns(path, _HEADINGS, ("image",))
    if rows and "label" not in headings and (heading := _find_labels(rows)):
        headings["label"] = heading
        rows = [{"label" if column == heading else column: text for column, text in row.items()} for row in rows]
    unused = [column for column in (rows[0] if rows else ()) if column not in _HEADINGS and column != "frame"]
    if unused:
        known = ", ".join(column if own == column else f"{column} ({own})" for column, own in headings.items())
        report_left_out("unused column", path, f"{path}: read are {known}; not read: {', '.join(unused)}")
    named = [{**_known(row, path), "image": image_stem(row["image"])} for row in rows if row["image"]]
    if len(named) < len(rows):
        leave_out(path, f"{len(rows) - len(named)} rows that name no image", "row without image")
    return Metadata(path, key_rows(named, "image", path), headings)


def find_metadata(places: Iterable[Path], stems: Collection[str]) -> Path | None:
    """Find the table of metadata in folders.

    That is `metadata.csv`, else a table called so in another form or spelling, such as `Metadata.xlsx`, else the only
    table that names most of the images, by the stems of these and of their frames. Of the folders the first counts
    most. Of other tables the user is told that they are not read.
    """
    tables = [path for place in dict.fromkeys(places) for path in _tables(place)]
    found = next((path for path in tables if path.name == TABLE), None)
    for rank in (_is_called_metadata, lambda path: _names_images(path, stems)):
        if found is None:
            fitting = [path for path in tables if path.suffix.lower() in _FORMS and rank(path)]
            found = fitting[0] if len(fitting) == 1 else None
            if len(fitting) > 1:
                break
    for path in tables:
        if path.name not in _OWN and not (found and path.samefile(found)):
            beside = f"{found.name} is read" if found else "it is not known to be the table of the images"
            leave_out(
                path, f"{beside}; to have this one read, save it as {TABLE}, with a column image", "table not read"
            )
    return found


def _tables(folder: Path) -> list[Path]:
    """List the files of a folder that may be tables of metadata, sorted by name."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith((".", "~$")))
    tables = (path for path in files if path.suffix.lower() in _FORMS + _NOT_READ)
    return [path for path in tables if _is_called_metadata(path) or path.suffix.lower() not in _OF_ANYTHING]


def _is_called_metadata(path: Path) -> bool:
    return fold_heading(path.stem) in _NAMES


def _names_images(path: Path, stems: Collection[str]) -> bool:
    """Tell whether a table has a row for most of the images."""
    try:
        rows, _ = read_columns(path, _HEADINGS, ("image",))
    except DatasetError:
        return False
    return 2 * len({image_stem(row["image"]) for row in rows}.intersection(stems)) > len(stems)


def _find_labels(rows: Sequence[TableRow]) -> str | None:
    """Find the column that holds labels and nothing else, though it is not called so."""
    for heading in rows[0]:
        stated = {row[heading].lower() for row in rows if not is_missing(row[heading])}
        if fold_heading(heading) in _PERHAPS_LABELS and stated and stated <= set(LABELS):
            return heading
    return None


def _known(row: TableRow, path: Path) -> TableRow:
    """Empty the cells that say that nothing is known, and spell patients in one way."""
    known = {column: "" if column in COLUMNS and is_missing(text) else text for column, text in row.items()}
    if "patient" in known:
        known["patient"] = patient_name(known["patient"], f"{path}, {row['image']}")
    return known


def report_doubtful_spacings(where: Path, doubts: Mapping[str, str]) -> None:
    """Tell the user once of each doubt about pixel sizes, which are not used; by the images, of a table or folder."""
    alike: dict[str, list[str]] = {}
    for image, doubt in doubts.items():
        alike.setdefault(doubt, []).append(image)
    for doubt, images in alike.items():
        several = f" and {len(images) - 1} more" if len(images) > 1 else ""
        message = (
            f"{where}: the pixel size of {images[0]}{several} is not used: {doubt}; write millimetres into {TABLE}"
        )
        report_left_out("spacing not used", where, message)
