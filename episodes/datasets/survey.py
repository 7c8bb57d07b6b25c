"""A survey of a folder that nobody has described yet."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from episodes.datasets import read_dataset
from episodes.datasets.complaints import Complaint, collected_complaints
from episodes.datasets.files import sub_folders
from episodes.datasets.folder import read_rows
from episodes.datasets.folder_layout import FolderLayout, look
from episodes.datasets.tables import Row
from episodes.errors import DatasetError
from episodes.images.decoding import read_label_map, read_size
from episodes.images.dicom_header import is_dicom, read_facts
from episodes.images.rasters import read_format
from episodes.images.regions import count_components
from episodes.parallel import Progress, in_threads
from episodes.phantoms.layouts import DESCRIPTION
from episodes.records import Record


def recognise(root: Path) -> str | None:
    """The reader of the known dataset that a folder holds in its own layout; None if it is none of them.

    The reader is the judge of whether the dataset is complete: what makes it unmistakable is enough here.
    """
    return next((reader for reader, holds in _HOLDS.items() if holds(root)), None)


def _holds_phantoms(root: Path) -> bool:
    return (root / DESCRIPTION).is_file()


def _holds_bus_uclm(root: Path) -> bool:
    return (root / "INFO.csv").is_file() and {"images", "masks"} <= sub_folders(root).keys()


def _holds_bus_bra(root: Path) -> bool:
    return (root / "bus_data.csv").is_file() and {"images", "masks"} <= sub_folders(root).keys()


def _holds_busi(root: Path) -> bool:
    folders = sub_folders(root)
    classes = ("benign", "malignant", "normal")
    return all(name in folders and any(folders[name].glob(f"{name} (*).png")) for name in classes)


def _holds_udiat(root: Path) -> bool:
    folders = sub_folders(root).keys()
    return {"original", "gt"} <= folders or {"benign", "malignant", "all_masks"} <= folders


def _holds_breast_usg(root: Path) -> bool:
    return any(any(folder.glob("case*_tumor.png")) for folder in (root, *sub_folders(root).values()))


_HOLDS: Mapping[str, Callable[[Path], bool]] = {
    "phantom": _holds_phantoms,
    "bus_uclm": _holds_bus_uclm,
    "bus_bra": _holds_bus_bra,
    "busi": _holds_busi,
    "udiat": _holds_udiat,
    "breast_usg": _holds_breast_usg,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one record's files are like.

    Attributes:
        size: (H, W) of the image.
        form: such as `PNG 8 bit`.
        lesions: separate outlines in its masks.
        other_sizes: masks whose size is not the image's.
        error: what is wrong where a file cannot be read; empty otherwise.
        may_show_names: whether a DICOM file does not rule out that a name is written into the picture.
    """

    size: tuple[int, int] = (0, 0)
    form: str = ""
    lesions: int = 0
    other_sizes: tuple[Path, ...] = ()
    error: str = ""
    may_show_names: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder was understood to hold.

    Attributes:
        root: the folder.
        reader: `folder`, or the known dataset that it holds.
        layout: where things lie, if the reader is `folder`.
        rows: of `metadata.csv`, by the name of the image; None if there is none, or the reader has another table.
        records: what can be read, sorted by id.
        seen: what each record's files are like.
        complaints: what the reader found wrong.
    """

    root: Path
    reader: str
    layout: FolderLayout | None
    rows: dict[str, Row] | None
    records: tuple[Record, ...]
    seen: tuple[Seen, ...]
    complaints: tuple[Complaint, ...]

    @property
    def readable(self) -> list[Seen]:
        """What is known of the files that can be read."""
        return [one for one in self.seen if not one.error]

    @property
    def forms(self) -> Counter[str]:
        """How many images there are of each format and depth."""
        return Counter(one.form for one in self.readable)


def survey(root: Path, progress: Progress | None = None) -> Survey:
    """Look at a folder as the reader does that fits it, and at every file that the reader names.

    Args:
        root: a known dataset as distributed, or a user's own folder.
        progress: called after each image with the number done and the total.

    Raises:
        DatasetError: if it cannot be read at all; the message says what was expected.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"{root} {what}: give the folder that holds your images and masks")
    reader = recognise(root) or "folder"
    with collected_complaints() as complaints:
        records = read_dataset(reader, root)
    layout = rows = None
    if reader == "folder":
        with collected_complaints():  # once is enough
            layout = look(root)
            rows = read_rows(layout)
    seen = tuple(in_threads(_look_at, records, progress))
    return Survey(root, reader, layout, rows, tuple(records), seen, tuple(complaints))


def _look_at(record: Record) -> Seen:
    try:
        facts = read_facts(record.image) if is_dicom(record.image) else None
        size = read_size(record.image, record.frame)
        name, bits = ("DICOM", facts.bits) if facts else read_format(record.image)
        label_map = read_label_map(record, size)
        lesions = count_components(label_map > 0)
        others = tuple(mask for mask in record.masks if read_size(mask) != size)
    except DatasetError as error:
        return Seen(error=str(error))
    return Seen(size, f"{name} {bits} bit", lesions, others, may_show_names=bool(facts and facts.may_show_names))
