"""`fewshot data show`: a dataset's images, classes and split as figures."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from episodes.errors import UserError
from episodes.records import Label, Record
from episodes.splits import read_split
from episodes.store import Store
from episodes.streams import Stream
from fewshot.figures.classes import LOOKS
from fewshot.figures.composition import classes_figure, splits_figure
from fewshot.figures.contact_sheet import Group, Tile, contact_sheet

SHEET, CLASSES, SPLITS = "contact_sheet.png", "classes.png", "splits.png"


def choose_images(records: Sequence[Record], count: int, seed: int = 0) -> dict[Label, list[Record]]:
    """Choose images to look at: of each class as many as of the others, as far as there are, and of many patients.

    Args:
        records: of one dataset.
        count: how many in all; fewer where there are not as many.
        seed: another seed chooses others.

    Returns:
        Class -> its images by id, in the order in which figures show classes.

    >>> records = [Record("d", Path(f"{n}.png"), (), "normal" if n else "benign", f"{n // 3}") for n in range(9)]
    >>> {label: [record.image.stem for record in chosen] for label, chosen in choose_images(records, 4).items()}
    {'benign': ['0'], 'normal': ['1', '4', '6']}
    """
    stream = Stream(seed, 0)
    waiting = {
        label: _by_turns(
            [record for record in sorted(records, key=lambda one: one.id) if record.label == label], stream
        )
        for label in LOOKS
    }
    shown: dict[Label, int] = dict.fromkeys(waiting, 0)
    for _ in range(min(count, len(records))):
        open_classes = [label for label in waiting if shown[label] < len(waiting[label])]
        shown[min(open_classes, key=lambda label: shown[label])] += 1
    return {label: sorted(waiting[label][:number], key=_by_number) for label, number in shown.items() if number}


def _by_number(record: Record) -> list[tuple[str, int]]:
    """Order by name as people do: `benign (9)` before `benign (17)`."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", record.id)]


def _by_turns(records: Sequence[Record], stream: Stream) -> list[Record]:
    """Shuffled, but a patient's second image comes after everybody's first."""
    turn: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, Record]] = []
    for record in stream.shuffled(records):
        turns.append((turn[record.patient_id], record))
        turn[record.patient_id] += 1
    return [record for _, record in sorted(turns, key=lambda pair: pair[0])]


def require_free(folder: Path, *, with_split: bool, overwrite: bool) -> list[Path]:
    """The files that are going to be drawn.

    Raises:
        UserError: if one of them exists and is not to be replaced.
    """
    files = [folder / name for name in (SHEET, CLASSES, *([SPLITS] if with_split else []))]
    for path in files:
        if path.exists() and not overwrite:
            raise UserError(f"{path}: exists already; give another --out, or replace it with --overwrite")
    return files


def show_dataset(
    store: Store, folder: Path, *, count: int = 48, seed: int = 0, split: Path | None = None, overwrite: bool = False
) -> list[Path]:
    """Draw a contact sheet, the classes, and with a split its parts.

    Args:
        store: the dataset.
        folder: to write to.
        count: images on the contact sheet.
        seed: chooses them.
        split: a split of the store's records on disk.
        overwrite: replace what is there.

    Returns:
        The files written.

    Raises:
        UserError: if a file exists and is not to be replaced, or the split is of other records.
    """
    files = require_free(folder, with_split=split is not None, overwrite=overwrite)
    found = None if split is None else read_split(split, store.records)
    dataset = store.records[0].dataset
    contact_sheet(folder / SHEET, _groups(store, count, seed), title=dataset)
    classes_figure(folder / CLASSES, store.records, title=dataset)
    if found is not None and split is not None:
        splits_figure(folder / SPLITS, store.records, found.parts, title=f"{dataset}, {split.name}")
    return files


def _groups(store: Store, count: int, seed: int) -> list[Group]:
    rows = {record.id: row for row, record in enumerate(store.records)}
    totals = Counter(record.label for record in store.records)
    groups = []
    for label, records in choose_images(store.records, count, seed).items():
        tiles = []
        for record in records:
            row = rows[record.id]
            height, width = store.original_sizes[row]
            name = record.id.partition("/")[2]
            tiles.append(Tile(name, store.images[row], store.label_maps[row], height / width))
        groups.append(Group(label, tiles, totals[label]))
    return groups
