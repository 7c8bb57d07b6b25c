"""A small dataset of random pictures with a lesion in the middle, of every label."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.images.decoding import decode_masks
from episodes.records import Label, Record

SIZE = (24, 32)  # H, W


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def read_label_map(record: Record, size: tuple[int, int]) -> NDArray[np.uint8]:
    return decode_masks(record, size).labels


def random_picture(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def box(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A lesion in the middle quarter."""
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 4 : 3 * shape[0] // 4, shape[1] // 4 : 3 * shape[1] // 4] = 255
    return mask


def made(root: Path, name: str, seed: int, label: Label = "benign", shape: tuple[int, int] = (40, 50)) -> Record:
    image = save(root / "images" / f"{name}.png", random_picture(seed, shape))
    masks = () if label == "normal" else (save(root / "masks" / f"{name}.png", box(shape)),)
    return Record("made", image, masks, label, patient=f"patient-{name}")


def one_of_each(root: Path) -> list[Record]:
    return [
        made(root, "b", 0),
        made(root, "a", 1, "malignant", (61, 33)),
        made(root, "c", 2, "normal"),
        made(root, "d", 3, "unknown"),
    ]


def folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir() if path.is_dir()} if parent.is_dir() else set()
