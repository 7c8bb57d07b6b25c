"""Check a dataset: read it whatever is wrong with it, decode all of it, and list what looks wrong."""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.curation.findings import KINDS, CheckReport, Finding, Kind
from episodes.curation.near_duplicates import contradictory, duplicate_groups, settle_group, thumbnail
from episodes.datasets import find_reader, read_dataset
from episodes.datasets.files import files_below, is_image_file, unread_format
from episodes.datasets.patients import similar_names
from episodes.datasets.problems import Problem, collected_problems
from episodes.errors import DatasetError
from episodes.images.decoding import decode_masks, is_scaled, read_image, read_size
from episodes.images.grey_scales import describe_full_scales
from episodes.images.regions import count_components
from episodes.io.files import real_path
from episodes.names import printable
from episodes.parallel import Progress, in_threads
from episodes.records import LABEL_VALUES, Record

TINY = 0.001  # of the image's area
DIM = 32  # of 255: so dark is what uses 12 of 16 bits, or 8 of 12
# Columns of tables, as `Record.extra` holds them.
_FLAGS: Mapping[str, Kind] = {"Doppler": "Doppler overlay", "Marks": "marks on image", "Combined": "combined image"}
# Pixels by which the shorter side of an image may differ after scaling: half of one is rounding.
_ROUNDING = 0.6
_SHOWN = 5  # names of a group

Size = tuple[int, int]
Note = tuple[Kind, str]


def check_dataset(
    name: str, root: Path, progress: Progress | None = None, *, invert_masks: bool = False
) -> CheckReport:
    """Read a dataset and list all that looks wrong, what its reader would stop at included.

    A reader's module may hold `PUBLISHED`, the numbers of images by label and of patients in the dataset's paper, and
    `stated_sizes(root)`, the sizes (H, W) by stem that the dataset's table states: both are compared with what is
    there. Name, root and `invert_masks` are those of `read_dataset`; the progress is called after each record with the
    number done and the number in all.

    Raises:
        DatasetError: if there is nothing in the layout that the reader expects.
    """
    with collected_problems() as problems:
        records = read_dataset(name, root, invert_masks=invert_masks)
    module = sys.modules[find_reader(name).__module__]
    with collected_problems():  # once is enough
        stated_sizes = module.stated_sizes(root) if hasattr(module, "stated_sizes") else {}
    report = check_records(records, root, problems, stated_sizes, progress)
    published: dict[str, int] = dict(getattr(module, "PUBLISHED", {}))
    if labels := [published[label] for label in LABEL_VALUES if label in published]:
        published = {"images": sum(labels), **published}
    return replace(report, dataset=report.dataset or name, published=published)


def check_records(
    records: Sequence[Record],
    root: Path,
    problems: Sequence[Problem] = (),
    stated_sizes: Mapping[str, Size] | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Decode every image and mask of a dataset's records and list what looks wrong, its reader's problems included.

    Its folder is searched for image files that no record uses. The sizes that the dataset states are (H, W) by the
    stem of the image. The progress is called after each record with the number done and the number in all.
    """
    contents = list(in_threads(inspect, records, progress))
    findings = [
        *(Finding(one.kind, (_within(root, one.subject),), one.message) for one in problems),
        *(finding for content in contents for finding in content.findings),
        *find_extra_files(records, root, [problem.subject for problem in problems]),
        *compare_stated_sizes(contents, stated_sizes or {}),
        *find_flags(records),
        *doubt_patients(records),
        *find_exact_duplicates(contents),
        *find_near_duplicates(contents),
    ]
    findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
    labels = Counter(record.label for record in records)
    patients = {record.patient_id for record in records}
    return CheckReport(
        dataset=", ".join(sorted({record.dataset for record in records})),
        root=printable(str(root)),
        counts={"images": len(records), "patients": len(patients), **{one: labels[one] for one in LABEL_VALUES}},
        patients=_count_by_patient(records),
        grey_scales=tuple(describe_full_scales(record.full_scale for record in records)),
        # The root is said once.
        findings=tuple(replace(one, detail=printable(one.detail.replace(f"{root}{os.sep}", ""))) for one in findings),
    )


def _within(root: Path, path: Path) -> str:
    return printable((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def _count_by_patient(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Count each patient's images by label; nothing where the dataset names no patients."""
    counts: dict[str, Counter[str]] = {}
    if _names_patients(records):
        for record in sorted(records, key=lambda record: record.patient):
            counts.setdefault(record.patient, Counter())[record.label] += 1
    return {one: {label: found[label] for label in LABEL_VALUES if found[label]} for one, found in counts.items()}


def _names_patients(records: Sequence[Record]) -> bool:
    """Tell whether a dataset says whose images they are."""
    return any(record.names_patient for record in records)


@dataclass(frozen=True, slots=True)
class Content:
    """The outcome of decoding a record; the rest only where its image could be decoded."""

    record: Record
    findings: tuple[Finding, ...]  # what is wrong with its files
    size: Size | None = None  # (H, W) of the image
    digest: str = ""  # of the image's pixels and size; equal for images that are the same in files that may differ
    thumbnail: NDArray[np.uint8] | None = None  # see `episodes.curation.near_duplicates.thumbnail`


def inspect(record: Record) -> Content:
    """Decode the image and the masks of a record and compare them with each other and with the label."""
    try:
        image = read_image(record.image, record.frame, record.full_scale)
    except DatasetError as error:
        return Content(record, (Finding(_damage(record.image, record.frame, error), (record.id,), str(error)),))
    height, width = image.shape
    notes = list(_inspect_masks(record, (height, width)))
    if np.ptp(image) == 0:
        notes.append(("blank image", f"every pixel is {image[0, 0]}"))
    elif image.max() < DIM:
        notes.append(("dim image", f"its brightest value is {image.max()} of 255"))
    return Content(
        record=record,
        findings=tuple(Finding(kind, (record.id,), detail) for kind, detail in notes),
        size=(height, width),
        digest=sha256(repr(image.shape).encode() + image.tobytes()).hexdigest(),
        thumbnail=thumbnail(image),
    )


def _inspect_masks(record: Record, size: Size) -> Iterator[Note]:
    """Yield what is wrong with the masks of a record whose image has this size."""
    label_map = np.zeros(size, np.uint8)
    broken = False
    for path in record.masks:
        try:
            found = decode_masks(replace(record, masks=(path,)), size)
            mask_size = read_size(path)
        except DatasetError as error:
            broken = True
            yield _mask_damage(path), str(error)
            continue
        # A normal's binary mask decodes to nothing; what is drawn there shows nonetheless.
        labels = found.labels if found.labels.any() else found.drawn * np.uint8(LABEL_VALUES["unknown"])
        np.maximum(label_map, labels, out=label_map)
        yield from (("doubtful mask", doubt) for doubt in found.doubts)
        if mask_size != size:
            yield "mask of another size", f"{path.name} is {_size_text(mask_size)}, the image {_size_text(size)}"
    if len(record.masks) > 1:
        yield "several masks", f"{len(record.masks)}: {', '.join(path.name for path in record.masks)}"
    if not broken:
        yield from _compare_label(record, label_map)


def _compare_label(record: Record, label_map: NDArray[np.uint8]) -> Iterator[Note]:
    """Yield what the masks show, (H, W), that does not fit the label, and lesions that are tiny or not in one piece."""
    lesion = label_map > 0
    share = float(lesion.mean())
    percent = f"{100 * share:.3f} %"
    if record.label == "normal":
        if share:
            yield "normal with lesion", f"labelled normal, but {percent} of the image is marked"
        return
    if not share:
        yield "empty lesion mask", f"labelled {record.label}, but no pixel is marked"
        return
    classes = {label for label, value in LABEL_VALUES.items() if value and (label_map == value).any()}
    if classes != {record.label}:
        yield "class against label", f"labelled {record.label}, but marked {' and '.join(sorted(classes))}"
    if share < TINY:
        yield "tiny lesion", f"{percent} of the image"
    parts = count_components(lesion)
    if parts > 1:
        files = f"{len(record.masks)} mask files" if len(record.masks) > 1 else "one mask file"
        yield "several lesions", f"{parts} separate parts in {files}"


def _size_text(size: Size) -> str:
    height, width = size
    return f"{width} x {height}"


def _damage(path: Path, frame: int | None, error: DatasetError) -> Kind:
    """Tell a file that is no usable image from one that begins as an image and then breaks off."""
    try:
        read_size(path, frame)
    except DatasetError:
        return "unreadable" if path.exists() else "missing file"
    # Without a decoder's error behind it, the pixels are all there but of no meaning, such as negative.
    return "truncated or damaged" if error.__cause__ else "unreadable"


def _mask_damage(path: Path) -> Kind:
    """Tell a mask that cannot be decoded from one that can, but does not mean anything."""
    try:
        read_image(path)
    except DatasetError as undecoded:
        return _damage(path, None, undecoded)
    return "unclear mask"


def find_extra_files(records: Sequence[Record], root: Path, known: Collection[Path]) -> Iterator[Finding]:
    """Find the image files below a dataset's folder, DICOM included, that no record uses.

    Known are files, and folders with all that is in them, of which something has been said already.
    """
    used = {real_path(path) for record in records for path in (record.image, *record.masks)}
    spoken_of = {real_path(path) for path in known}
    for path in files_below(root):
        file, form = real_path(path), unread_format(path)
        if (form or is_image_file(path)) and file not in used and spoken_of.isdisjoint((file, *file.parents)):
            why = f": {form} is not read" if form else ""
            yield Finding("extra file", (_within(root, path),), f"no record uses it{why}")


def compare_stated_sizes(contents: Sequence[Content], stated: Mapping[str, Size]) -> Iterator[Finding]:
    """Find images whose size is not what the dataset's table says.

    Of copies at another scale only those are wrong that have another aspect ratio. Stated is (H, W) by the image's
    stem.
    """
    for content in contents:
        size, said = content.size, stated.get(content.record.stem)
        if size is None or said is None or size == said:
            continue
        scaled = max(size) != max(said) and is_scaled(size, said, _ROUNDING)
        kind: Kind = "scaled copy" if scaled else "size against table"
        yield Finding(kind, (content.record.id,), f"{_size_text(size)}, but {_size_text(said)} in the table")


def doubt_patients(records: Sequence[Record]) -> Iterator[Finding]:
    """Find one patient that all images are said to be of, and names that may be one patient's."""
    by_name: dict[str, list[str]] = {}
    for record in records:
        if record.names_patient:
            by_name.setdefault(record.patient, []).append(record.id)
    if len(by_name) == 1 and len(records) > 1:
        ((name, ids),) = by_name.items()
        if len(ids) == len(records):
            yield Finding("one patient", tuple(ids), f"all {len(ids)} images are of one patient ({name})")
    for names in similar_names(by_name):
        ids = [one for name in names for one in by_name[name]]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield Finding("names alike", tuple(ids), f"patients {', '.join(names[:_SHOWN])}{more} are named alike")


def find_flags(records: Sequence[Record]) -> Iterator[Finding]:
    """Find the images on which, as the dataset states, more than tissue is to be seen."""
    for record in records:
        for column, kind in _FLAGS.items():
            if record.extra.get(column, "").lower() == "yes":
                yield Finding(kind, (record.id,), f"{column}: {record.extra[column]}")


def find_exact_duplicates(contents: Sequence[Content]) -> Iterator[Finding]:
    """Find images of equal size and pixels, and say whether the files are equal as well."""
    same: dict[str, list[Record]] = defaultdict(list)
    for content in contents:
        if content.digest:
            same[content.digest].append(content.record)
    for records in same.values():
        if len(records) > 1:
            ids = tuple(record.id for record in records)
            yield Finding("exact duplicates", ids, f"the same pixels in {_compare_files(records)}")


def _compare_files(records: Sequence[Record]) -> str:
    first, *others = sorted({record.image for record in records})
    if not others:
        return "frames of one file"
    content = first.read_bytes()
    return "byte-identical files" if all(other.read_bytes() == content for other in others) else "files that differ"


def find_near_duplicates(contents: Sequence[Content]) -> Iterator[Finding]:
    """Find groups of near-duplicates, and say where their labels contradict each other or their patients differ."""
    readable = [(content.record, content.thumbnail) for content in contents if content.thumbnail is not None]
    knows_patients = _names_patients([record for record, _ in readable])
    for group in duplicate_groups([small for _, small in readable]):
        records, thumbnails = zip(*(readable[index] for index in group), strict=True)
        ids = tuple(record.id for record in records)
        patients = sorted({record.patient for record in records})
        least = np.corrcoef(np.reshape(thumbnails, (len(group), -1))).min()
        of_all = "" if len(group) == 2 else " of the least alike two"
        of_one = ", of one patient" if len(patients) == 1 else ""
        yield Finding("near-duplicates", ids, f"correlation {least:.3f}{of_all}{of_one}")
        if contradictory(records):
            by_label: dict[str, list[str]] = defaultdict(list)
            for record in records:
                by_label[record.label].append(record.stem)
            labels = "; ".join(f"{label}: {', '.join(stems)}" for label, stems in by_label.items())
            kind: Kind = "conflicting labels" if settle_group(records, "group") else "two patients, two labels"
            yield Finding(kind, ids, labels)
        if len(patients) > 1 and knows_patients:
            yield Finding("patient under two names", ids, ", ".join(patients))
