"""A survey of a folder that nobody has described yet: which dataset it holds, and the facts of each image."""

from dataclasses import dataclass
from pathlib import Path

from episodes.datasets import read_dataset
from episodes.datasets.files import sub_folders
from episodes.datasets.folder import read_table_of
from episodes.datasets.folder_layout import FolderLayout, read_layout
from episodes.datasets.folder_parts import CLASSES
from episodes.datasets.metadata import Metadata
from episodes.datasets.problems import Problem, collected_problems
from episodes.errors import DatasetError
from episodes.images.decoding import decode_masks, read_size
from episodes.images.dicom_header import is_dicom, read_dicom_facts
from episodes.images.rasters import read_format
from episodes.images.regions import count_components
from episodes.parallel import Progress, in_threads
from episodes.phantoms.layouts import DESCRIPTION
from episodes.records import Record


def recognise(root: Path) -> str | None:
    """Name the reader of the known dataset that a folder holds in its own layout; None if it is none of them.

    The reader is the judge of whether the dataset is complete: what makes it unmistakable is enough here.
    """
    folders = sub_folders(root)
    names = folders.keys()
    holds = {
        "phantom": (root / DESCRIPTION).is_file(),
        "bus_uclm": (root / "INFO.csv").is_file() and {"images", "masks"} <= names,
        "bus_bra": (root / "bus_data.csv").is_file() and {"images", "masks"} <= names,
        "busi": all(name in names and any(folders[name].glob(f"{name} (*).png")) for name in CLASSES),
        "udiat": {"original", "gt"} <= names or {"benign", "malignant", "all_masks"} <= names,
        "breast_usg": any(any(folder.glob("case*_tumor.png")) for folder in (root, *folders.values())),
    }
    return next((reader for reader, found in holds.items() if found), None)


@dataclass(frozen=True, slots=True)
class SurveyedImage:
    """The facts of one record's files."""

    size: tuple[int, int] = (0, 0)  # (H, W) of the image
    form: str = ""  # such as `PNG 8 bit`
    lesions: int = 0  # separate outlines in its masks
    drawn_normal: bool = False  # whether its masks mark something, though it is labelled normal
    doubts: tuple[str, ...] = ()  # what speaks against its masks, each with the file and what to do
    other_sizes: tuple[Path, ...] = ()  # masks whose size is not the image's
    error: str = ""  # what is wrong where a file cannot be read; empty otherwise
    may_show_names: bool = False  # whether a DICOM file does not rule out that a name is written into the picture


@dataclass(frozen=True, slots=True)
class Survey:
    """The content of a folder, as far as it is understood."""

    root: Path  # the folder
    reader: str  # `folder`, or the known dataset that it holds
    layout: FolderLayout | None  # where things lie, if the reader is `folder`
    metadata: Metadata | None  # the table beside the images; None if there is none, or the reader has another table
    records: tuple[Record, ...]  # what can be read, sorted by id
    images: tuple[SurveyedImage, ...]  # the facts of each record's files
    problems: tuple[Problem, ...]  # what the reader found wrong

    @property
    def readable(self) -> list[SurveyedImage]:
        """Return the facts of the images that can be read."""
        return [image for image in self.images if not image.error]


def survey(root: Path, progress: Progress | None = None, *, invert_masks: bool = False) -> Survey:
    """Read a known dataset as distributed, or a user's own folder, and every file that the fitting reader names.

    The progress is called after each image with the number done and the total. Masks that are inverted have a light
    ground.

    Raises:
        DatasetError: if it cannot be read at all; the message says what was expected.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetError(f"{root} {what}: give the folder that holds your images and masks")
    reader = recognise(root) or "folder"
    with collected_problems() as problems:
        records = read_dataset(reader, root, invert_masks=invert_masks)
    layout = metadata = None
    if reader == "folder":
        with collected_problems():  # once is enough
            layout = read_layout(root)
            metadata = read_table_of(layout)
    images = tuple(in_threads(_inspect, records, progress))
    return Survey(root, reader, layout, metadata, tuple(records), images, tuple(problems))


def _inspect(record: Record) -> SurveyedImage:
    try:
        facts = read_dicom_facts(record.image) if is_dicom(record.image) else None
        size = read_size(record.image, record.frame)
        name, bits = ("DICOM", facts.bits) if facts else read_format(record.image)
        masks = decode_masks(record, size)
        others = tuple(mask for mask in record.masks if read_size(mask) != size)
    except DatasetError as error:
        return SurveyedImage(error=str(error))
    names = bool(facts and facts.may_show_names)
    return SurveyedImage(
        size,
        f"{name} {bits} bit",
        lesions=count_components(masks.labels > 0),
        drawn_normal=record.label == "normal" and bool(masks.drawn.any()),
        doubts=masks.doubts,
        other_sizes=others,
        may_show_names=names,
    )
