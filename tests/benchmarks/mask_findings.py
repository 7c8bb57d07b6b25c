"""How often each kind of mask file is read, refused or doubted, and how often those of the public sets are.

    python -m tests.benchmarks.mask_findings DATA [COUNT]

DATA holds the folders of BUSI, BUS-UCLM and BUS-BRA. Prints the tables of docs/masks.md: each kind of
`tests/cases/made_masks.py` is made COUNT times (50) of lesions of the public sets at random, and every mask of the
sets is read as a binary mask, saved as it is and as a JPEG of quality 75.
"""

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from episodes.datasets import read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_size
from episodes.images.masks import BinaryMask, read_binary_mask
from episodes.records import Record
from tests.cases.made_masks import KINDS, Bool, compressed, dice, levels
from tests.episodes.made_pictures import read_label_map

SETS = {"busi": "Dataset_BUSI_with_GT", "bus_uclm": "BUS-UCLM", "bus_bra": "BUSBRA"}


def outcome(path: Path) -> tuple[str, BinaryMask | None]:
    try:
        found = read_binary_mask(path)
    except DatasetError:
        return "refused", None
    return ("doubted" if found.doubts else "read"), found


def lesion_of(record: Record) -> Bool:
    lesion: Bool = read_label_map(record, read_size(record.image)) > 0
    return lesion


def print_kinds(records: list[Record], count: int, folder: Path) -> None:
    print("| kind | right outcome | read right | read wrong | doubted | refused |\n|---|---|---|---|---|---|")
    for name, make in KINDS.items():
        counts: Counter[str] = Counter()
        for seed in range(count):
            rng = np.random.default_rng(seed)
            made = make(rng, lesion_of(records[int(rng.integers(len(records)))]))
            made.save(folder / f"a{made.suffix}")
            result, found = outcome(folder / f"a{made.suffix}")
            if found is not None and result == "read":
                result = "right" if dice(found.lesion, made.lesion) >= (0.95 if made.lossy else 1) else "wrong"
            counts[result] += 1
        row = (counts[result] for result in ("right", "wrong", "doubted", "refused"))
        print(f"| {name} | {made.outcome} |", " | ".join(map(str, row)), "|")


def print_sets(sets: dict[str, list[Record]], folder: Path) -> None:
    print("\n| set | masks | doubted | refused | as JPEG: doubted | refused | Dice below 0.95 |")
    print("|---|---|---|---|---|---|---|")
    for name, records in sets.items():
        counts: Counter[str] = Counter()
        masks = [mask for record in records for mask in record.masks]
        for mask in masks:
            result, found = outcome(mask)
            counts[result] += 1
            if found is None:
                continue
            Image.fromarray(compressed(levels(found.lesion, 0, 255), 75)).save(folder / "jpeg.png")
            result, again = outcome(folder / "jpeg.png")
            counts[f"JPEG {result}"] += 1
            counts["far"] += again is not None and dice(again.lesion, found.lesion) < 0.95
        row = (counts[key] for key in ("doubted", "refused", "JPEG doubted", "JPEG refused", "far"))
        print(f"| {name} | {len(masks)} |", " | ".join(map(str, row)), "|")


def main() -> None:
    data, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50
    sets = {name: read_dataset(name, data / folder) for name, folder in SETS.items()}
    lesions = [record for records in sets.values() for record in records if record.has_lesion]
    with TemporaryDirectory() as folder:
        print_kinds(lesions, count, Path(folder))
        print_sets(sets, Path(folder))


if __name__ == "__main__":
    main()
