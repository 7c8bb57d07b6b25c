"""Any folder of images and masks, such as a clinic's own: the layout to convert a dataset to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from episodes.datasets.files import report_missing_mask
from episodes.datasets.folder_layout import FolderImage, FolderLayout, read_layout
from episodes.datasets.metadata import COLUMNS, Metadata, read_metadata, report_doubtful_spacings
from episodes.datasets.patients import describe_identities, name_patients
from episodes.datasets.problems import report_left_out, report_problem
from episodes.datasets.tables import TableRow, find_row, parse_label, report_rows_without_image
from episodes.errors import DatasetError, in_short
from episodes.images.dicom_header import DicomFacts
from episodes.images.spacing import Spacing
from episodes.io.yaml_json import JSONTextError, read_json
from episodes.phantoms.layouts import DESCRIPTION
from episodes.records import Label, Record, frame_stem


def read(root: Path, dataset: str = "folder", *, any_spacing: bool = False) -> list[Record]:
    """Read `images/` and `masks/`, or images and masks side by side, and a table such as `metadata.csv` if any.

    Which folders and names are known is said in `folder_parts.find_parts` and `folder_parts.parse_mask_name`, which
    tables and headings in `metadata`. The table's columns are `image` (with or without suffix), `label`, `patient` and
    `spacing_mm` (millimetres per pixel: one number, or row and column as `0.1 x 0.12`); all but `image` may be missing
    or empty, and further ones become extra facts. Without a label, which a folder `benign/`, `malignant/` or `normal/`
    gives as well, a lesion is of unknown kind.

    DICOM files give what the table does not: the spacing, and the patient under a pseudonym (`patient-001`, by the
    order of files). Without either the image is a patient of its own. Of a file with several frames those with a mask
    are records of their own; the others are left out. With `any_spacing` pixels may be of any size, as those of small
    phantoms are.

    Raises:
        DatasetError: if the layout is unknown, an image has no mask and is not labelled normal, the table has no row
            for an image, or a value cannot be read.
    """
    layout = read_layout(root)
    metadata = read_table_of(layout)
    spacings = metadata.spacings(any_size=any_spacing) if metadata else {}
    records = []
    for image in layout.images:
        for frame in _frames(image):
            stems = (frame_stem(image.path, frame), image.stem)
            row = find_row(metadata.rows, image.path, metadata.path, *stems) if metadata else {}
            spacing = next((spacings[stem] for stem in stems if stem in spacings), None)
            if row is not None and (record := _record(dataset, image, frame, row, spacing, layout.table)):
                records.append(record)
    facts = {image.path: image.facts for image in layout.images if image.facts}
    _note_dicom(facts, records)
    patients = name_patients(facts, {record.image: record.patient for record in records if record.names_patient})
    records = [one if one.names_patient else replace(one, patient=patients.get(one.image, "")) for one in records]
    _note_unnamed_patients(records, metadata)
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
    return read(root, dataset=f"phantom-{scanner}", any_spacing=True)


def read_table_of(layout: FolderLayout) -> Metadata | None:
    """Read the table of a folder, if there is one; its rows that name no image are left out."""
    if layout.table is None:
        return None
    found = read_metadata(layout.table)
    stems = {frame_stem(image.path, frame) for image in layout.images for frame in (None, *image.masks)}
    report_rows_without_image(found.rows, stems, layout.table)
    return found


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
    dataset: str, image: FolderImage, frame: int | None, row: TableRow, spacing: Spacing | None, table: Path | None
) -> Record | None:
    """Make a record of an image and its row of the table, which is empty where there is none."""
    label = _label(image, row, table)
    if label is None:
        return None
    masks = image.masks.get(frame, ())
    if not masks and label != "normal":
        report_missing_mask(image.path, f"{image.stem}{image.mask_affix}", image.mask_folder)
        return None
    return Record(
        dataset=dataset,
        image=image.path,
        masks=masks,
        label=label,
        patient=row.get("patient", ""),
        spacing=spacing or (image.facts.spacing if image.facts else None),
        extra={column: value for column, value in row.items() if column not in COLUMNS},
        frame=frame,
    )


def _note_dicom(facts: Mapping[Path, DicomFacts], records: Sequence[Record]) -> None:
    """Note what headers lack that the table does not say either."""
    unnamed = {record.image for record in records if not record.names_patient}
    without = {record.image for record in records if record.spacing is None}
    open_ones = sorted(facts.keys() & unnamed)
    if unclear := describe_identities([facts[path] for path in open_ones]):
        report_left_out("patient by study", open_ones[0], f"{open_ones[0].parent}: {unclear}")
    doubts = {path.name: doubt for path in sorted(facts.keys() & without) if (doubt := facts[path].spacing_doubt)}
    if doubts:
        report_doubtful_spacings(min(facts).parent, doubts)


def _note_unnamed_patients(records: Sequence[Record], metadata: Metadata | None) -> None:
    """Note images that name no patient though there is a column of patients."""
    unnamed = [record for record in records if not record.names_patient]
    if metadata and "patient" in metadata.headings and unnamed:
        count = f"{len(unnamed)} of {len(records)} images name no patient (first: {unnamed[0].stem})"
        report_left_out("unnamed patient", metadata.path, f"{metadata.path}: {count}: each counts as one of its own")


def _label(image: FolderImage, row: TableRow, table: Path | None) -> Label | None:
    """Return what the table says, else the folder; None, and a problem, where they disagree."""
    text = row.get("label")
    if not text or table is None:
        return image.label or "unknown"
    label = parse_label(text, image.path, table)
    if label and image.label and label != image.label:
        message = f"{table}, {image.path.name}: labelled {label}, but it lies in {image.path.parent}; mend one"
        report_problem("bad label", image.path, message)
        return None
    return label
