"""`fewshot select`: which images of a folder to outline first."""

import logging
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from baselines.encoders import Encoder
from episodes.curation.near_duplicates import duplicate_groups, group_patients, thumbnail
from episodes.datasets.files import may_be_clip
from episodes.datasets.metadata import COLUMNS, TABLE
from episodes.datasets.patients import name_patients
from episodes.datasets.tables import TableRow, parse_label, read_table
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import read_image, stretch_image
from episodes.images.dicom_header import DicomFacts, is_dicom, read_dicom_facts
from episodes.images.grey_scales import with_full_scales
from episodes.io.files import csv_text, folder_written_whole, require_free
from episodes.io.locks import exclusive_lock
from episodes.names import short_name
from episodes.records import UNKNOWN, Record, frame_stem
from episodes.sampling.selection import By, choose, nearest_chosen
from fewshot.checkpoints import load_network
from fewshot.devices import Batching, choose_device
from fewshot.inference.inputs import Input, Inputs, find_inputs, read_metadata_beside
from fewshot.inference.out_of_distribution import AnyEncoder, describe_images, find_encoder
from fewshot.plots.images import Tile, TileGroup, contact_sheet
from fewshot.terminal import Reporter

logger = logging.getLogger(__name__)
_READ_AT_ONCE = 32


def find_candidates(inputs: Inputs, table: Path | None = None) -> dict[Input, Record]:
    """Find what is known of images that have no masks yet.

    A table beside the images, or beside their folder `images/`, is read as the reader `folder` reads it: patients,
    pixel sizes, and labels, of which `normal` leaves an image out, as there is nothing to outline. DICOM files tell
    their patients apart as well, under a pseudonym. Of what is left each file is a patient of its own. Another table
    may be named in its place.

    Returns:
        Images, in their order, and their records.

    Raises:
        UserError: if the table cannot be read, or no image is left.
    """
    metadata = read_metadata_beside(inputs, table)
    rows = metadata.rows if metadata else {}
    spacings = metadata.spacings() if metadata else {}
    table = metadata.path if metadata else Path(TABLE)
    facts = _read_headers(sorted({item.path for item in inputs.items}))
    named = {item.path: patient for item in inputs.items if (patient := _row_of(item, rows).get("patient", ""))}
    patients = name_patients(facts, named) | named
    found = {}
    for item in inputs.items:
        row = _row_of(item, rows)
        label = parse_label(row["label"], item.path, table) if row.get("label") else "unknown"
        if label is None or label == "normal":
            continue
        patient = row.get("patient") or patients.get(item.path) or f"{UNKNOWN}{item.image}"  # stems may be alike
        spacing = next((spacings[stem] for stem in _stems(item) if stem in spacings), None)
        if spacing is None and item.path in facts:
            spacing = facts[item.path].spacing
        found[item] = Record("images", item.path, (), label, patient, spacing=spacing, frame=item.frame)
    if left_out := len(inputs.items) - len(found):
        logger.info("%d images are left out: %s labels them normal, so they show no lesion", left_out, table)
    if not found:
        raise UserError(f"{table}: labels every image normal, so there is none to outline a lesion in")
    if unnamed := sum(not record.names_patient for record in found.values()):
        of = "the patients are" if unnamed == len(found) else f"the patients of {unnamed} images are"
        logger.info("%s not known: only images that show the same are taken to be of one", of)
    return dict(zip(found, with_full_scales(list(found.values())), strict=True))


def _stems(item: Input) -> tuple[str, str]:
    """Return the stems under which a table may name an image: its frame's, else its file's."""
    return frame_stem(item.path, item.frame), frame_stem(item.path, None)


def _row_of(item: Input, rows: Mapping[str, TableRow]) -> TableRow:
    """Return the table's row of an image; an empty one, if there is none."""
    return next((rows[stem] for stem in _stems(item) if stem in rows), {})


def _read_headers(files: Iterable[Path]) -> dict[Path, DicomFacts]:
    """Read what the headers of DICOM files say; one that cannot be read is found out when it is decoded."""
    found = {}
    for file in files:
        with suppress(DatasetError, OSError):
            if is_dicom(file):
                found[file] = read_dicom_facts(file)
    return found


@dataclass(frozen=True, slots=True)
class Describer:
    """An encoder, and the size of the images that it is shown."""

    encoder: AnyEncoder  # gives feature maps, shallow to deep; in evaluation mode
    image_size: int  # images are stretched to a square of so many pixels a side
    name: str  # of the encoder or checkpoint

    @classmethod
    def of_checkpoint(cls, path: Path, image_size: int | None = None, trust: Sequence[str] = ()) -> "Describer":
        """Load the encoder of a checkpoint's network, at the size that it was trained at unless another is given.

        `trust` names the modules that its network may be of.

        Raises:
            UserError: if the checkpoint cannot be read, or its network has no encoder.
        """
        network, loaded = load_network(path, trust)
        encoder = find_encoder(network)
        if encoder is None:
            raise UserError(f"{path}: its network has no encoder to describe images by; give another, or --encoder")
        return cls(encoder, image_size or int(loaded.facts["image_size"]), str(path))

    @classmethod
    def named(cls, name: str, weights: str, image_size: int = 256) -> "Describer":
        """Build a timm encoder, read by the level that networks read where nothing else is said.

        Weights are `imagenet`, which timm downloads, or a safetensors file.

        Raises:
            EncoderError: if there is no such encoder, or its weights cannot be had.
        """
        return cls(Encoder(name, weights=weights).eval(), image_size, f"{name}, {weights}")


@dataclass(frozen=True, slots=True)
class Described:
    """The images that could be read, and what describes them."""

    places: list[int]  # which of the given ones they are, rising
    features: NDArray[np.float32]  # unit vectors (n_images, n_values)
    thumbnails: NDArray[np.uint8]  # by which images that show the same are found, (n_images, 48, 48)
    unreadable: list[str]  # the others, and why


def describe_files(
    records: Sequence[Record], describer: Describer, device: torch.device, update: Callable[[int, int], None]
) -> Described:
    """Decode and encode images, a few at a time, so that any number fits into memory.

    `update` is told how many are done, of how many.

    Raises:
        UserError: if none can be read, or the encoder gives no numbers.
        NotEnoughMemoryError: if memory does not suffice for a single image.
    """
    encoder, batching = describer.encoder.to(device), Batching(device)
    size = (describer.image_size, describer.image_size)
    places: list[int] = []
    features: list[NDArray[np.float32]] = []
    thumbnails: list[NDArray[np.uint8]] = []
    unreadable: list[str] = []
    waiting = iter(enumerate(records))
    while some := list(islice(waiting, _READ_AT_ONCE)):
        images = []
        for place, record in some:
            try:
                images.append(stretch_image(read_image(record.image, record.frame, record.full_scale), size))
                places.append(place)
            except DatasetError as error:
                unreadable.append(str(error))
        if images:
            features.append(describe_images(encoder, images, batching))
        thumbnails += [thumbnail(image) for image in images]
        update(some[-1][0] + 1, len(records))
    if not places:
        raise UserError(f"none of {len(records)} images can be read; the first: {unreadable[0]}")
    every = np.concatenate(features)
    if not np.isfinite(every).all():
        raise UserError(f"{describer.name}: its features are not finite; are its weights damaged?")
    return Described(places, every, np.stack(thumbnails), unreadable)


SELECTED, SHEET, IMAGES = "selected.csv", "selected.png", "images"
_OWN = {SELECTED, SHEET, IMAGES, TABLE}
# On the sheet: images of a row, which are the chosen one and others that it stands for; and rows.
_SHOWN, _ROWS = 8, 30


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen image."""

    rank: int  # 1 for the one to annotate first
    input: Input  # the image
    record: Record  # what is known of it; its patient is one with those whose images show the same
    # The images that are nearer to it than to the other chosen ones, itself first, then by distance.
    stands_for: Sequence[Input]


def require_replaceable(folder: Path, *, overwrite: bool) -> None:
    """Refuse to write where something would be lost.

    Raises:
        UserError: if there is something and it is not to be replaced, or is not what an earlier selection wrote, such
            as masks.
    """
    if not folder.is_dir():
        require_free(folder)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and not overwrite:
        raise UserError(f"{folder}: is not empty; give another --out, or replace an earlier selection with --overwrite")
    if foreign := sorted(found - _OWN) or sorted(_further_images(folder)):
        raise UserError(f"{folder}: holds {foreign[0]}, which no selection wrote; give another --out")


def _further_images(folder: Path) -> set[str]:
    """Return files among the copies that the table does not name: a user's own."""
    if not (folder / IMAGES).is_dir():
        return set()
    rows = read_table(folder / SELECTED, ("file",)) if (folder / SELECTED).is_file() else []
    return {path.name for path in (folder / IMAGES).iterdir()} - {row["file"] for row in rows}


def write_selection(folder: Path, chosen: Sequence[Chosen], n_images: int, *, title: str) -> None:
    """Write the folder, whole, in place of an earlier one.

    They were chosen from `n_images`; the title is that of the contact sheet.

    Raises:
        StorageError: if it cannot be written.
        DatasetError: if an image cannot be read any more.
    """
    files = [_file_name(one, len(chosen)) for one in chosen]
    with folder_written_whole(folder) as partial:
        (partial / IMAGES).mkdir()
        for one, name in zip(chosen, files, strict=True):
            if _is_decoded(one):
                pixels = read_image(one.input.path, one.input.frame, one.record.full_scale)
                Image.fromarray(pixels).save(partial / IMAGES / name)
            else:
                shutil.copyfile(one.input.path, partial / IMAGES / name)
        (partial / SELECTED).write_bytes(csv_text(_selected_rows(chosen, files, n_images)).encode())
        (partial / TABLE).write_bytes(csv_text(_table_rows(chosen, files)).encode())
        contact_sheet(partial / SHEET, [_group(one, n_images) for one in chosen[:_ROWS]], title=title)


def _file_name(one: Chosen, count: int) -> str:
    """Name a copy: they are in order by name, and `--shots` takes the first by name."""
    stem = short_name(f"{one.rank:0{len(str(count))}d}-{one.input.name.replace('/', '-')}")
    return f"{stem}{'.png' if _is_decoded(one) else one.input.path.suffix.lower()}"


def _is_decoded(one: Chosen) -> bool:
    """Tell whether the pixels of an image are written rather than its file copied.

    So are those of one frame, of DICOM, whose header may name the patient, and of more than 8 bits: among fewer images
    the file would have another grey scale.
    """
    return may_be_clip(one.input.path) or one.record.full_scale is not None


def _selected_rows(chosen: Sequence[Chosen], files: Sequence[str], n_images: int) -> Iterator[Sequence[object]]:
    yield "rank", "image", "frame", "patient", "file", "stands_for", "share"
    for one, file in zip(chosen, files, strict=True):
        number = len(one.stands_for)
        frame = one.input.frame or ""
        yield one.rank, one.input.image, frame, one.record.patient, file, number, f"{number / n_images:.4f}"


def _table_rows(chosen: Sequence[Chosen], files: Sequence[str]) -> Iterator[Sequence[object]]:
    """Yield what the reader `folder` is to know of the copies: their headers and folders tell it no more."""
    yield COLUMNS
    images = Counter(one.record.patient for one in chosen)
    for one, file in zip(chosen, files, strict=True):
        spacing = " x ".join(f"{number:.6g}" for number in one.record.spacing or ())
        label = "" if one.record.label == "unknown" else one.record.label
        # Those that show the same stay of one patient, though nobody knows who that is.
        patient = f"of {one.record.patient[1:]}" if images[one.record.patient] > 1 else ""
        yield file, label, one.record.patient if one.record.names_patient else patient, spacing


def _group(one: Chosen, n_images: int) -> TileGroup:
    """Return tiles of the chosen image and some of those that it stands for, from near to far."""
    number = len(one.stands_for)
    places = np.linspace(0, number - 1, min(number, _SHOWN)).round().astype(int)
    note = f"stands for {number} of {n_images} images ({number / n_images:.0%}), from near to far"
    tiles = [_tile(one.stands_for[place], one.record.full_scale) for place in places]
    return TileGroup(f"{one.rank}  {one.input.image}", tiles, number, note if number > 1 else "stands for itself")


def _tile(image: Input, full_scale: float | None) -> Tile:
    pixels: NDArray[np.uint8] = read_image(image.path, image.frame, full_scale)
    name = image.name.rpartition("/")[2]
    return Tile(name, pixels, np.zeros(pixels.shape, np.uint8), pixels.shape[0] / pixels.shape[1])


@dataclass(frozen=True, slots=True)
class SelectionRequest:
    """The images to select from, and how many."""

    images: str  # a file, a folder or a pattern
    budget: int  # how many images to choose
    by: By = "k-medoids"  # what makes a choice good
    metadata: Path | None = None  # a table of patients and labels; None for the one beside the images, if there is one
    device: str = "auto"  # where to compute


def select_images(
    request: SelectionRequest, describer: Describer, out: Path, reporter: Reporter, *, overwrite: bool = False
) -> Path:
    """Choose images, and write the table, the contact sheet and copies.

    `overwrite` replaces an earlier selection.

    Returns:
        The table, `selected.csv`.

    Raises:
        UserError: if there is no image, none can be read, the table is none, or the folder holds something else.
    """
    require_replaceable(out, overwrite=overwrite)
    with exclusive_lock(out):
        inputs = find_inputs(request.images, without=[out])
        for line in inputs.left_out_lines():
            logger.info("%s", line)
        found = find_candidates(inputs, request.metadata)
        with reporter.step(f"describe {len(found)} images") as update:
            described = describe_files(list(found.values()), describer, choose_device(request.device), update)
        for reason in described.unreadable[:5]:
            logger.warning("left out: %s", reason)
        if described.unreadable:
            logger.warning("%d of %d images could not be read", len(described.unreadable), len(found))
        with reporter.step("select"):
            chosen = _chosen(found, described, request)
        with reporter.step("write"):
            title = f"{len(chosen)} of {len(described.places)} images to annotate"
            write_selection(out, chosen, len(described.places), title=title)
    return out / SELECTED


def _chosen(found: Mapping[Input, Record], described: Described, request: SelectionRequest) -> list[Chosen]:
    inputs = [list(found)[place] for place in described.places]
    records = [found[item] for item in inputs]
    records = group_patients(records, duplicate_groups(described.thumbnails))
    if request.budget > len(records):
        logger.warning("%d images are all there are to choose from", len(records))
    order = choose(described.features, [record.patient for record in records], request.budget, request.by)
    of_rank = _stand_ins(described, order)
    return [
        Chosen(rank, inputs[index], records[index], [inputs[other] for other in of_rank[rank]])
        for rank, index in enumerate(order, start=1)
    ]


def _stand_ins(described: Described, order: Sequence[int]) -> Mapping[int, list[int]]:
    """Return by rank the images that a chosen one stands for, near to far; itself is the nearest."""
    rank_of, far = nearest_chosen(described.features, order)
    of_rank: dict[int, list[int]] = defaultdict(list)
    for index in np.lexsort((np.arange(len(far)), ~np.isin(np.arange(len(far)), order), far)).tolist():
        of_rank[int(rank_of[index]) + 1].append(index)
    return of_rank
