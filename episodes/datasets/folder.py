"""Any folder of images and masks, such as a clinic's own: the layout to convert a dataset to."""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path

from episodes.datasets.files import image_stem, report_missing_mask
from episodes.datasets.folder_layout import FolderImage, FolderLayout, read_layout
from episodes.datasets.problems import report_left_out, report_problem
from episodes.datasets.tables import TableRow, find_row, key_rows, parse_label, read_table, report_rows_without_image
from episodes.errors import DatasetError, in_short
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.phantoms.layouts import DESCRIPTION
from episodes.records import Label, Record, frame_stem

COLUMNS = ("image", "label", "patient", "spacing_mm")


def read(root: Path, dataset: str = "folder") -> list[Record]:
    """Read `images/` and `masks/`, or images and masks side by side, and `metadata.csv` if it is there.

    Which folders and names are known is said in `folder_parts.find_parts` and `folder_parts.parse_mask_name`. The
    table's columns are `image` (with or without suffix), `label`, `patient` and `spacing_mm` (millimetres per pixel:
    one number, or row and column as `0.1 x 0.12`); all but `image` may be missing or empty, and further ones become
    extra facts. Without a label, which a folder `benign/`, `malignant/` or `normal/` gives as well, a lesion is of
    unknown kind.

    DICOM files give what the table does not: the spacing, and the patient under a pseudonym (`patient-001`, by the
    order of files). Without either the image is a patient of its own. Of a file with several frames those with a mask
    are records of their own; the others are left out.

    Args:
        root: the folder that holds them.
        dataset: the name that the records' dataset gets.

    Raises:
        DatasetError: if the layout is unknown, an image has no mask and is not labelled normal, the table has no row
            for an image, or a value cannot be read.
    """
    layout = read_layout(root)
    rows = read_rows(layout)
    patients = pseudonyms(layout.images)
    records = []
    for image in layout.images:
        for frame in _frames(image):
            stems = (frame_stem(image.path, frame), image.stem)
            row = {} if rows is None else find_row(rows, image.path, layout.table, *stems)
            if row is not None and (record := _record(dataset, image, frame, row, patients, layout.table)):
                records.append(record)
    clips = [image for image in layout.images if image.is_clip]
    unused = sum(clip.frames - len(clip.masks) for clip in clips)
    if unused:
        of = f"of {len(clips)} clips" if len(clips) > 1 else f"of {clips[0].path.name}"
        report_left_out("extra file", root, f"{root}: left out: {unused} frames {of} that have no mask")
    return records


def read_phantoms(root: Path) -> list[Record]:
    """Read a dataset as `episodes.phantoms` writes it; it is named after its scanner, such as `phantom-linear`.

    Raises:
        DatasetError: if `phantom.json` is missing or damaged, or the folder is not as it was written.
    """
    description = root / DESCRIPTION
    try:
        described = read_json(description)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{description} is missing, so this is no complete phantom dataset: generate it again, "
            "or read it as 'folder'"
        ) from error
    except (OSError, JSONTextError) as error:
        raise DatasetError(f"{description} is damaged ({in_short(error)}); generate the dataset again") from error
    scanner = described.get("scanner") if isinstance(described, dict) else None
    if not isinstance(scanner, str):
        raise DatasetError(f"{description} is damaged (scanner {scanner}); generate the dataset again")
    return read(root, dataset=f"phantom-{scanner}")


def read_rows(layout: FolderLayout) -> dict[str, TableRow] | None:
    """Read the rows of `metadata.csv`, by the stem of the image that they name; None if there is no such table.

    Raises:
        DatasetError: if the table cannot be read.
    """
    if not layout.table.exists():
        return None
    named = ({**row, "image": image_stem(row["image"])} for row in read_table(layout.table, ("image",)))
    rows = key_rows(named, "image", layout.table)
    frames = {frame_stem(image.path, frame) for image in layout.images for frame in (None, *image.masks)}
    report_rows_without_image(rows, frames, layout.table)
    return rows


def pseudonyms(images: Iterable[FolderImage]) -> dict[Path, str]:
    """Name the patients of DICOM files by the order in which their first file comes: the names tell nothing else."""
    names: dict[str, str] = {}
    of_files = {}
    for image in sorted(images, key=lambda image: image.path):
        if image.facts and image.facts.patient:
            of_files[image.path] = names.setdefault(image.facts.patient, f"patient-{len(names) + 1:03d}")
    return of_files


def _frames(image: FolderImage) -> Iterator[int | None]:
    """Yield the frames of a file that are records; a clip of which none has a mask is a problem, if it is no normal."""
    if image.frames == 1:
        yield None
    elif image.masks:
        yield from sorted(frame for frame in image.masks if frame is not None)
    elif image.is_clip and image.label != "normal":
        message = (
            f"{image.path}: none of its {image.frames} frames has a mask; add one, such as "
            f"{frame_stem(image.path, 1)}{image.mask_affix}.png, or remove the file"
        )
        report_problem("missing file", image.path, message)


def _record(
    dataset: str, image: FolderImage, frame: int | None, row: TableRow, patients: Mapping[Path, str], table: Path
) -> Record | None:
    label = _label(image, row, table)
    if label is None:
        return None
    masks = image.masks.get(frame, ())
    if not masks and label != "normal":
        report_missing_mask(image.path, f"{image.stem}{image.mask_affix}", image.mask_folder)
        return None
    stated = image.facts.spacing if image.facts else None
    return Record(
        dataset=dataset,
        image=image.path,
        masks=masks,
        label=label,
        patient=row.get("patient") or patients.get(image.path) or image.stem,
        spacing=_parse_spacing(row.get("spacing_mm", ""), image.path, table) or stated,
        extra={column: value for column, value in row.items() if column not in COLUMNS},
        frame=frame,
    )


def _label(image: FolderImage, row: TableRow, table: Path) -> Label | None:
    """Return what the table says, else the folder; None, and a problem, where they disagree."""
    text = row.get("label")
    if not text:
        return image.label or "unknown"
    label = parse_label(text, image.path, table)
    if label and image.label and label != image.label:
        message = f"{table}, {image.path.name}: labelled {label}, but it lies in {image.path.parent}; mend one"
        report_problem("bad label", image.path, message)
        return None
    return label


def _parse_spacing(text: str, image: Path, table: Path) -> tuple[float, float] | None:
    """Read millimetres per pixel.

    >>> image, table = Path("a.png"), Path("metadata.csv")
    >>> [_parse_spacing(text, image, table) for text in ("0.1", "0.1 x 0.12", "")]
    [(0.1, 0.1), (0.1, 0.12), None]
    """
    if not text:
        return None
    try:
        numbers = [float(number) for number in text.replace("x", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(isfinite(number) and number > 0 for number in numbers):
        message = f"{table}, {image.name}: spacing_mm {text!r} is no size; write such as 0.1 or 0.1 x 0.12"
        report_problem("bad value", image, message)
        return None
    return numbers[0], numbers[-1]
