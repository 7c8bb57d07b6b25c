"""Descriptions of how a user's folder was understood: in words, YAML and as a metadata table."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from episodes.curation.check import doubt_patients
from episodes.curation.findings import KINDS
from episodes.datasets.metadata import COLUMNS, TABLE
from episodes.datasets.survey import Survey
from episodes.errors import UserError
from episodes.images.grey_scales import describe_full_scales
from episodes.io.files import csv_text
from episodes.names import printable
from episodes.records import LABELS, Record, frame_stem

_EXAMPLES = 3
UNNAMED = "none are named: every image counts as one"


def understood(survey: Survey, name: str) -> list[str]:
    """Say in lines what was found, and where each fact comes from."""
    layout = survey.layout or f"the dataset {survey.reader} in its own layout"
    if not survey.readable:
        return [f"{name}: {layout}", f"  images    {len(survey.records)}, of which none can be used as it is"]
    n_lesions = [one.lesions for one in survey.readable]
    greys = describe_full_scales(record.full_scale for record in survey.records)
    facts = {
        "images": f"{len(survey.records)} ({_forms(survey)}), {_sizes(survey)}",
        **({"greys": "; ".join(greys)} if greys else {}),
        "masks": str(sum(len(record.masks) for record in survey.records)),
        "lesions": f"{sum(n_lesions)} in {sum(map(bool, n_lesions))} images, none in {n_lesions.count(0)}",
        "labels": f"{count_labels(survey.records)} ({_label_source(survey)})",
        "patients": f"{len({record.patient for record in survey.records})} ({_patient_source(survey)})",
        "spacing": _spacing(survey.records),
    }
    if clips := [image for image in (survey.layout.images if survey.layout else ()) if image.is_clip]:
        frames, outlined = sum(clip.frames for clip in clips), sum(len(clip.masks) for clip in clips)
        facts["clips"] = f"{len(clips)} of {frames} frames, of which the {outlined} with a mask are images"
    return [f"{name}: {layout}", *(f"  {fact:<9} {text}" for fact, text in facts.items())]


def doubts(survey: Survey) -> list[str]:
    """Say in lines what is missing or doubtful, each with what to do about it."""
    return [*_problems(survey), *_file_doubts(survey), *_fact_doubts(survey)]


def dataset_yaml(survey: Survey, name: str) -> str:
    """Write the lines of a configuration that read this dataset.

    Raises:
        UserError: if the folder's path is not UTF-8.
    """
    import yaml

    inverted = {"invert": True} if any(record.mask_format == "inverted" for record in survey.records) else {}
    root = str(survey.root.resolve())
    try:
        root.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{root}: is not UTF-8, so that no configuration can name it; rename the folder") from error
    tree = {"datasets": {name: {"reader": survey.reader, "root": root, **inverted}}}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def dataset_name(root: Path, reader: str) -> str:
    """Name a dataset unless the user says: a known one as its reader, a folder by its name.

    >>> dataset_name(Path("data/Klinik Süd (2024)"), "folder"), dataset_name(Path("data/x"), "busi")
    ('Klinik-S-d-2024', 'busi')
    """
    if reader != "folder":
        return reader
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", root.resolve().name).strip("-_.+") or "mine"


def _forms(survey: Survey) -> str:
    """Say which format and depth the images have, or how many have each."""
    forms = Counter(image.form for image in survey.readable).most_common()
    return forms[0][0] if len(forms) == 1 else ", ".join(f"{count} {form}" for form, count in forms)


def count_labels(records: Sequence[Record]) -> str:
    """Say how many records there are of each label, such as `12 benign, 3 normal`."""
    counts = Counter(record.label for record in records)
    return ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label])


def _sizes(survey: Survey) -> str:
    sizes = {one.size for one in survey.readable}
    heights, widths = zip(*sizes, strict=True)
    several = f"{len(sizes)} sizes, " if len(sizes) > 1 else ""
    return f"{several}{_range(widths)} x {_range(heights)} pixels"


def _range(numbers: Sequence[int]) -> str:
    """Write the least and the largest, or the one that there is.

    >>> _range([190, 256, 200]), _range([320, 320])
    ('190-256', '320')
    """
    return f"{min(numbers)}-{max(numbers)}" if len(set(numbers)) > 1 else str(numbers[0])


def _label_source(survey: Survey) -> str:
    if survey.layout is None:
        return "as the dataset states them"
    by_folder = any(image.label for image in survey.layout.images)
    return _sources(survey, "label", "names of the folders" if by_folder else "", "nothing states them")


def _patient_source(survey: Survey) -> str:
    if survey.layout is None:
        named = any(record.names_patient for record in survey.records)
        return "as the dataset states them" if named else UNNAMED
    by_header = any(image.facts and image.facts.identity for image in survey.layout.images)
    return _sources(survey, "patient", "DICOM, under pseudonyms" if by_header else "", UNNAMED)


def _sources(survey: Survey, column: str, files: str, nothing: str) -> str:
    """Name the column of the table, if it says anything, and what the files themselves say it by."""
    table = survey.metadata
    stated = table.source(column) if table and any(row.get(column) for row in table.rows.values()) else ""
    sources = " and ".join(filter(None, (stated, files)))
    return f"from {sources}" if sources else nothing


def _spacing(records: Sequence[Record]) -> str:
    known = [side for record in records if record.spacing for side in record.spacing]
    if not known:
        return "not known: distances are in pixels"
    count = sum(record.spacing is not None for record in records)
    return f"known of {count} images: {min(known):.3g} to {max(known):.3g} mm per pixel"


def _problems(survey: Survey) -> Iterator[str]:
    """Say what the reader found wrong, the first few of each kind."""
    for kind in dict.fromkeys(problem.kind for problem in survey.problems):
        found = [problem for problem in survey.problems if problem.kind == kind]
        if kind == "row without image":
            first = found[0].subject
            yield f"{len(found)} rows of the table name no image (first: {first}); add the images, or remove the rows"
        else:
            yield from _first([problem.message for problem in found], f"of this kind ({kind})")


def _first(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from lines[:_EXAMPLES]
    if len(lines) > _EXAMPLES:
        yield f"... and {len(lines) - _EXAMPLES} more {what}; `fewshot data check` lists them all"


def _file_doubts(survey: Survey) -> Iterator[str]:
    yield from _first([one.error for one in survey.images if one.error], "that cannot be read")
    yield from _first([doubt for one in survey.images for doubt in one.doubts], "doubtful masks")
    others = [mask for one in survey.images for mask in one.other_sizes]
    if others:
        yield (
            f"{len(others)} masks have another size than their image (first: {others[0].name}): they are resized to it "
            "(nearest pixel); see with `fewshot data show` that they fit"
        )
    pairs = zip(survey.records, survey.images, strict=True)
    empty = [record.stem for record, one in pairs if not (one.error or one.lesions) and record.label != "normal"]
    if empty:
        yield (
            f"{len(empty)} masks are empty though the image is not labelled normal (first: {empty[0]}): such an image "
            "counts as normal; outline its lesion, or label it normal"
        )
    pairs = zip(survey.records, survey.images, strict=True)
    if drawn := [record.stem for record, one in pairs if one.drawn_normal]:
        yield (
            f"{len(drawn)} images are labelled normal though their masks mark a lesion (first: {drawn[0]}): the masks"
            " are ignored; correct the label, or remove the mask"
        )
    named = sum(one.may_show_names for one in survey.images)
    if named:
        yield (
            f"{named} DICOM images do not state that no name is written into the picture (BurnedInAnnotation is not "
            "NO): look at them before you show or share anything that is made of them; pixels are not cleaned here"
        )


def _fact_doubts(survey: Survey) -> Iterator[str]:
    if not any(record.names_patient for record in survey.records):
        advice = f"; add the column patient to {TABLE}" if survey.layout else ""
        yield (
            "no patients are named: every image counts as a patient of its own, so that images of one patient may be "
            f"both learned from and tested on{advice}"
        )
    yield from (f"{doubt.detail}; {KINDS[doubt.kind].done}" for doubt in doubt_patients(survey.records))
    labels = Counter(record.label for record in survey.records)
    if labels["unknown"]:
        advice = f": add the column label to {TABLE} (benign, malignant or normal) to tell them apart"
        yield f"{labels['unknown']} images have no label, and their lesions are of unknown kind{advice}"
    elif not labels["normal"]:
        yield "no image is labelled normal, so that false alarms on healthy breasts cannot be measured"


def metadata_csv(survey: Survey) -> str:
    """Write the table, with a row for each image; labels, patients and spacings that are not known are left to fill in.

    Raises:
        UserError: if the folder holds a dataset that has another table.
    """
    if survey.layout is None:
        raise UserError(f"{survey.root}: holds {survey.reader}, which has its own tables and reads no {TABLE}")
    if survey.metadata:
        raise UserError(f"{survey.metadata.path}: is the table that is read; fill in that one, or move it away")
    records = {record.stem: record for record in survey.records}
    rows: list[Sequence[str]] = [COLUMNS]
    for image in survey.layout.images:
        outlined = sorted(frame for frame in image.masks if frame is not None)
        for frame in outlined if image.is_clip else (None,):
            record = records.get(frame_stem(image.path, frame))
            label = record.label if record else image.label
            known = "" if label in (None, "unknown") else label
            name = printable(image.path.name) if frame is None else frame_stem(image.path, frame)
            spacing = " x ".join(f"{number:.6g}" for number in (record and record.spacing) or ())
            patient = record.patient if record and record.names_patient else ""
            rows.append((name, known, patient, spacing))
    return csv_text(rows)
