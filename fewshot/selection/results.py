"""What a selection leaves behind: a table, a contact sheet, and copies of the images, ready to be outlined."""

import csv
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.datasets.folder import COLUMNS
from episodes.datasets.folder_layout import TABLE
from episodes.datasets.pictures import may_be_clip
from episodes.datasets.tables import read_table
from episodes.decoding import read_image
from episodes.errors import UserError
from episodes.files import folder_written_whole
from episodes.records import Record
from fewshot.figures.contact_sheet import Group, Tile, contact_sheet
from fewshot.prediction.inputs import Input

SELECTED, SHEET, IMAGES = "selected.csv", "selected.png", "images"
_OWN = {SELECTED, SHEET, IMAGES, TABLE}
# On the sheet: images of a row, which are the chosen one and others that it stands for; and rows.
_SHOWN, _ROWS = 8, 30


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen image.

    Attributes:
        rank: 1 for the one to annotate first.
        input: the image.
        record: what is known of it; its patient is one with those whose images show the same.
        stands_for: the images that are nearer to it than to the other chosen ones, itself first, then by distance.
    """

    rank: int
    input: Input
    record: Record
    stands_for: Sequence[Input]


def require_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write where something would be lost.

    Raises:
        UserError: if there is something and it is not to be replaced, or is not what an earlier selection wrote, such
            as masks.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and not overwrite:
        raise UserError(f"{folder}: is not empty; give another --out, or replace an earlier selection with --overwrite")
    if foreign := sorted(found - _OWN) or sorted(_further_images(folder)):
        raise UserError(f"{folder}: holds {foreign[0]}, which no selection wrote; give another --out")


def _further_images(folder: Path) -> set[str]:
    """Files among the copies that the table does not name: a user's own."""
    if not (folder / IMAGES).is_dir():
        return set()
    rows = read_table(folder / SELECTED, ("file",)) if (folder / SELECTED).is_file() else []
    return {path.name for path in (folder / IMAGES).iterdir()} - {row["file"] for row in rows}


def write_selection(folder: Path, chosen: Sequence[Chosen], n_images: int, *, title: str) -> None:
    """Write the folder, whole, in place of an earlier one.

    Args:
        folder: to write.
        chosen: in their order.
        n_images: how many they were chosen from.
        title: of the contact sheet.

    Raises:
        StorageError: if it cannot be written.
        DatasetError: if an image cannot be read any more.
    """
    files = [_file_name(one, len(chosen)) for one in chosen]
    with folder_written_whole(folder) as partial:
        (partial / IMAGES).mkdir()
        for one, name in zip(chosen, files, strict=True):
            _copy(one, partial / IMAGES / name)
        (partial / SELECTED).write_text(_csv(_selected_rows(chosen, files, n_images)), encoding="utf-8")
        (partial / TABLE).write_text(_csv(_table_rows(chosen, files)), encoding="utf-8")
        contact_sheet(partial / SHEET, [_group(one, n_images) for one in chosen[:_ROWS]], title=title)


def _file_name(one: Chosen, count: int) -> str:
    """The name of a copy: they are in order by name, and `--shots` takes the first by name."""
    stem = f"{one.rank:0{len(str(count))}d}-{one.input.name.replace('/', '-')}"
    return f"{stem}{'.png' if _is_decoded(one.input) else one.input.path.suffix.lower()}"


def _is_decoded(image: Input) -> bool:
    """Whether a copy is decoded: of one frame, and of DICOM, whose header may name the patient."""
    return may_be_clip(image.path)


def _copy(one: Chosen, path: Path) -> None:
    if _is_decoded(one.input):
        Image.fromarray(read_image(one.input.path, one.input.frame)).save(path)
    else:
        shutil.copyfile(one.input.path, path)


def _selected_rows(chosen: Sequence[Chosen], files: Sequence[str], n_images: int) -> Iterator[Sequence[object]]:
    yield "rank", "image", "frame", "patient", "file", "stands_for", "share"
    for one, file in zip(chosen, files, strict=True):
        number = len(one.stands_for)
        frame = one.input.frame or ""
        yield one.rank, one.input.image, frame, one.record.patient, file, number, f"{number / n_images:.4f}"


def _table_rows(chosen: Sequence[Chosen], files: Sequence[str]) -> Iterator[Sequence[object]]:
    """What the reader `folder` is to know of the copies: their headers and folders tell it no more."""
    yield COLUMNS
    for one, file in zip(chosen, files, strict=True):
        spacing = " x ".join(f"{number:.6g}" for number in one.record.spacing or ())
        label = "" if one.record.label == "unknown" else one.record.label
        yield file, label, one.record.patient, spacing


def _csv(rows: Iterator[Sequence[object]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _group(one: Chosen, n_images: int) -> Group:
    """The chosen image, and some of those that it stands for, from near to far."""
    number = len(one.stands_for)
    places = np.linspace(0, number - 1, min(number, _SHOWN)).round().astype(int)
    note = f"stands for {number} of {n_images} images ({number / n_images:.0%}), from near to far"
    tiles = [_tile(one.stands_for[place]) for place in places]
    return Group(f"{one.rank}  {one.input.image}", tiles, number, note if number > 1 else "stands for itself")


def _tile(image: Input) -> Tile:
    pixels: NDArray[np.uint8] = read_image(image.path, image.frame)
    name = image.name.rpartition("/")[2]
    return Tile(name, pixels, np.zeros(pixels.shape, np.uint8), pixels.shape[0] / pixels.shape[1])
