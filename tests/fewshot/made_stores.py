"""Stores of made-up pictures whose likeness, labels and patients a test chooses."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from episodes.datasets import read_dataset
from episodes.records import Label
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store

SIZE = 64


def picture(number: int, *, like: int | None = None, share: float = 0.0) -> NDArray[np.uint8]:
    """Noise of large grains, unlike that of any other number; or like another's but for a share of its variance."""
    own = np.random.default_rng(number).standard_normal((8, 8))
    if like is not None:
        other = np.random.default_rng(like).standard_normal((8, 8))
        own = share**0.5 * own + (1 - share) ** 0.5 * other
    return np.kron(np.clip(128 + 40 * own, 0, 255), np.ones((8, 8))).astype(np.uint8)


@dataclass(frozen=True)
class Made:
    """One image; without a patient it is its own."""

    name: str
    label: Label
    pixels: NDArray[np.uint8]
    patient: str = ""


def write_made(root: Path, images: Sequence[Made]) -> Path:
    """Write them as the folder reader reads them; a lesion is a square in the middle."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "patient"])
        for image in images:
            writer.writerow([image.name, image.label, image.patient])
            Image.fromarray(image.pixels).save(root / "images" / f"{image.name}.png")
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[24:40, 20:44] = 0 if image.label == "normal" else 255
            Image.fromarray(mask).save(root / "masks" / f"{image.name}.png")
    return root


def made_store(folder: Path, images: Sequence[Made]) -> Store:
    root = write_made(folder / "made", images)
    return prepare_store(read_dataset("folder", root), folder / "stores", (SIZE, SIZE))
