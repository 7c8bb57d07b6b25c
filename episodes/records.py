"""A record: the paths and facts of one image. Never its pixels."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from episodes.errors import DatasetError
from episodes.names import composed, printable

Label = Literal["normal", "benign", "malignant", "unknown"]
MaskFormat = Literal["binary", "inverted", "colour"]

LABELS: tuple[Label, ...] = get_args(Label)

# The values of a label map, one per label.
LABEL_VALUES: Mapping[Label, int] = {"normal": 0, "benign": 1, "malignant": 2, "unknown": 3}

UNKNOWN = "?"  # with which the keys of patients begin whose names are not known


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a dataset and what is known about it.

    Attributes:
        dataset: the name under which the dataset was read, such as `busi`.
        image: path of the image file.
        masks: paths of its mask files; the lesion is their union. Empty where the dataset gives none (a normal).
        label: what the dataset says of the whole image.
        patient: all images of a patient share it; unique within the dataset. Given empty where it is not known, it
            becomes a key that no other image has and no name equals, as names don't begin with `?`.
        split: the dataset's official split or fold, if it has one.
        mask_format: `binary` masks take their class from `label`, and so do `inverted` ones, with a light ground;
            `colour` masks say it per pixel, green benign and red malignant.
        spacing: millimetres per pixel of the original image (row, column), where the dataset states it.
        extra: further facts as the dataset spells them, such as `{"Doppler": "Yes"}`.
        frame: which frame of a clip it is, from 1 on as DICOM counts; None where the file holds one picture.
        full_scale: the value that is shown white, of more than 8 bits; None where the file leaves no choice.
        odd_masks: whether its masks are known to have other proportions than the image, and are stretched to it.

    >>> record = Record("busi", Path("benign/benign (1).png"), (), "benign", patient="")
    >>> record.id, record.patient
    ('busi/benign (1)', '?benign (1)')
    >>> record.has_lesion, record.names_patient
    (True, False)
    >>> Record("clinic", Path("clip.dcm"), (), "normal", patient="patient-001", frame=3).id
    'clinic/clip-0003'
    """

    dataset: str
    image: Path
    masks: tuple[Path, ...]
    label: Label
    patient: str
    split: str | None = None
    mask_format: MaskFormat = "binary"
    spacing: tuple[float, float] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    frame: int | None = None
    full_scale: float | None = None
    odd_masks: bool = False

    def __post_init__(self) -> None:
        """Keep an image whose patient is not known apart from all others."""
        if not self.patient:
            object.__setattr__(self, "patient", f"{UNKNOWN}{self.stem}")

    @property
    def stem(self) -> str:
        """Return the image's name within its dataset, also of files made from it: its stem, and its frame's number."""
        return frame_stem(self.image, self.frame)

    @property
    def id(self) -> str:
        """Return the record's name everywhere: dataset and image stem."""
        return f"{self.dataset}/{self.stem}"

    @property
    def patient_id(self) -> str:
        """Return the patient's name across datasets."""
        return f"{self.dataset}/{self.patient}"

    @property
    def names_patient(self) -> bool:
        """Tell whether the dataset says whose image it is."""
        return not self.patient.startswith(UNKNOWN)

    @property
    def has_lesion(self) -> bool:
        """Tell whether the dataset says that the image shows a lesion."""
        return self.label != "normal"


def repeated_ids(records: Iterable[Record]) -> Iterator[tuple[Record, str]]:
    """Yield each record whose id an earlier one bears already, and one line that names both files."""
    seen: dict[str, Path] = {}
    for record in records:
        if record.id in seen:
            first = seen[record.id]
            yield record, f"{record.image}: the name {record.id!r} is already that of {first}; rename one of them"
        seen.setdefault(record.id, record.image)


def frame_stem(image: Path, frame: int | None) -> str:
    """Name a file, or a frame of it, by its stem; digits after a dot are part of the name, as in a DICOM UID.

    The name is composed, and what cannot be shown is escaped, so that it can be compared, printed and written.

    >>> frame_stem(Path("scan.01.png"), None), frame_stem(Path("1.2.840.17"), None), frame_stem(Path("clip.dcm"), 12)
    ('scan.01', '1.2.840.17', 'clip-0012')
    """
    stem = image.name if image.suffix[1:].isdecimal() else image.stem
    return composed(printable(stem if frame is None else f"{stem}-{frame:04d}"))


def require_unique_ids(records: Iterable[Record]) -> None:
    """Raise a `DatasetError` that names the first two files that would share an id."""
    for _, message in repeated_ids(records):
        raise DatasetError(message)


def records_hash(records: Iterable[Record]) -> str:
    """Hash what tasks depend on (ids, labels, patients), whatever the order or the folder the files lie in.

    >>> a, b = (Record("d", Path(f"{name}.png"), (), "benign", name) for name in "ab")
    >>> records_hash([a, b]) == records_hash([b, a]) != records_hash([a])
    True
    """
    lines = sorted(f"{record.id}\t{record.label}\t{record.patient_id}" for record in records)
    return sha256("\n".join(lines).encode()).hexdigest()[:16]
