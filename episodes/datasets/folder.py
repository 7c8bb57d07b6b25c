"""Any folder of images and masks, such as a clinic's own: the layout to convert a dataset to."""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path

from episodes.datasets.complaints import complain, note
from episodes.datasets.files import complain_of_missing_mask, named_stem
from episodes.datasets.folder_layout import FolderLayout, Picture, look
from episodes.datasets.tables import Row, key_rows, parse_label, read_table, report_rows_without_image
from episodes.records import Label, Record, frame_stem

COLUMNS = ("image", "label", "patient", "spacing_mm")


def read(root: Path, dataset: str = "folder") -> list[Record]:
    """Read `images/` and `masks/`, or images and masks side by side, and `metadata.csv` if it is there.

    Which folders and names are understood is said in `folder_parts.find_parts` and `mask_names.understand`. The
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
        DatasetError: if the layout is not understood, an image has no mask and is not labelled normal, the table has
            no row for an image, or a value cannot be read.
    """
    layout = look(root)
    rows = read_rows(layout)
    patients = pseudonyms(layout.pictures)
    records = []
    for picture in layout.pictures:
        for frame in _frames(picture, layout):
            row = {} if rows is None else _find_row(rows, picture, frame, layout.table)
            if row is not None and (record := _record(dataset, picture, frame, row, patients, layout)):
                records.append(record)
    _report_frames_without_mask(layout)
    return records


def pseudonyms(pictures: Iterable[Picture]) -> dict[Path, str]:
    """Names for the patients of DICOM files, by the order in which their first file comes: they tell nothing else."""
    names: dict[str, str] = {}
    of_files = {}
    for picture in sorted(pictures, key=lambda picture: picture.path):
        if picture.facts and picture.facts.patient:
            of_files[picture.path] = names.setdefault(picture.facts.patient, f"patient-{len(names) + 1:03d}")
    return of_files


def _frames(picture: Picture, layout: FolderLayout) -> Iterator[int | None]:
    """Which of a file's frames are records; a clip of which none has a mask is a complaint, if it is no normal."""
    if picture.frames == 1:
        yield None
    elif picture.masks:
        yield from sorted(frame for frame in picture.masks if frame is not None)
    elif picture.is_clip and picture.label != "normal":
        message = (
            f"{picture.path}: none of its {picture.frames} frames has a mask; add one, such as "
            f"{frame_stem(picture.path, 1)}{'_mask' if _is_beside(picture, layout) else ''}.png, or remove the file"
        )
        complain("missing file", picture.path, message)


def _record(
    dataset: str, picture: Picture, frame: int | None, row: Row, patients: Mapping[Path, str], layout: FolderLayout
) -> Record | None:
    label = _label(picture, row, layout.table)
    if label is None:
        return None
    masks = picture.masks.get(frame, ())
    if not masks and label != "normal":
        stem = f"{picture.stem}_mask" if _is_beside(picture, layout) else picture.stem
        complain_of_missing_mask(picture.path, stem)
        return None
    stated = picture.facts.spacing if picture.facts else None
    return Record(
        dataset=dataset,
        image=picture.path,
        masks=masks,
        label=label,
        patient=row.get("patient") or patients.get(picture.path) or picture.stem,
        spacing=_parse_spacing(row.get("spacing_mm", ""), picture.path, layout.table) or stated,
        extra={column: value for column, value in row.items() if column not in COLUMNS},
        frame=frame,
    )


def _is_beside(picture: Picture, layout: FolderLayout) -> bool:
    """Whether masks lie beside this image, and so need an affix."""
    return any(part.images == part.masks == picture.path.parent for part in layout.parts)


def _label(picture: Picture, row: Row, table: Path) -> Label | None:
    """What the table says, else the folder; where they disagree, a complaint."""
    text = row.get("label")
    if not text:
        return picture.label or "unknown"
    label = parse_label(text, picture.path, table)
    if label and picture.label and label != picture.label:
        message = f"{table}, {picture.path.name}: labelled {label}, but it lies in {picture.path.parent}; mend one"
        complain("bad label", picture.path, message)
        return None
    return label


def read_rows(layout: FolderLayout) -> dict[str, Row] | None:
    """The rows of `metadata.csv` by the stem of the image that they name; None if there is no such table.

    Raises:
        DatasetError: if the table cannot be read.
    """
    if not layout.table.exists():
        return None
    named = ({**row, "image": named_stem(row["image"])} for row in read_table(layout.table, ("image",)))
    rows = key_rows(named, "image", layout.table)
    stems = {picture.stem for picture in layout.pictures}
    frames = {frame_stem(picture.path, frame) for picture in layout.pictures for frame in picture.masks}
    report_rows_without_image(rows, stems | frames, layout.table)
    return rows


def _find_row(rows: Mapping[str, Row], picture: Picture, frame: int | None, table: Path) -> Row | None:
    """The row of a frame, else that of its file; None, and a complaint, if there is neither."""
    row = rows.get(frame_stem(picture.path, frame)) or rows.get(picture.stem)
    if row is None:
        message = f"{picture.path}: {table} has no row for it; add the row or remove the image"
        complain("missing row", picture.path, message)
    return row


def _report_frames_without_mask(layout: FolderLayout) -> None:
    clips = [picture for picture in layout.pictures if picture.is_clip]
    unused = sum(picture.frames - len(picture.masks) for picture in clips)
    if unused:
        of = f"of {len(clips)} clips" if len(clips) > 1 else f"of {clips[0].path.name}"
        note("extra file", layout.root, f"{layout.root}: left out: {unused} frames {of} that have no mask")


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
        complain("bad value", image, message)
        return None
    return numbers[0], numbers[-1]
