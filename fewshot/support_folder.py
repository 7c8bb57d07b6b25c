"""A folder of a few annotated images as a support set."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.datasets import read_dataset
from episodes.episode import Support, load_support
from episodes.errors import UserError
from episodes.store import Collection, prepare_store
from fewshot.data import default_cache


def load_support_folder(folder: Path, image_size: int, shots: int | None = None) -> Support:
    """The annotated images of a folder with `images/` and `masks/` of equal names.

    Args:
        folder: every image that is taken must show a lesion.
        image_size: working size.
        shots: how many images to take, the first by name; None for all.

    Raises:
        UserError: if there are fewer, or a mask is missing or empty.
    """
    records = sorted(read_dataset("folder", folder), key=lambda record: record.id)
    if shots is not None and len(records) < shots:
        raise UserError(f"{folder}: holds {len(records)} images, of which {shots} were asked for; lower --shots")
    records = records[:shots]
    store = prepare_store(records, default_cache() / "stores", (image_size, image_size))
    empty = [record.id for record, labels in zip(store.records, store.label_maps, strict=True) if not labels.any()]
    if empty:
        raise UserError(f"{folder}: {', '.join(empty)}: the mask is empty; outline the lesion or take the image out")
    return load_support(Collection([store]), [[record.id for record in store.records]])


def image_hashes(images: NDArray[np.uint8]) -> list[str]:
    """By which grey images (n, H, W) are known again, whatever their files are called."""
    return [sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16] for image in images]


def support_hashes(support: Support) -> list[str]:
    """The hashes of a support set's images, as of the grey images that they were made of."""
    grey = (support.images.flatten(0, 1)[:, 0] * 255).round()
    return image_hashes(grey.cpu().numpy().astype(np.uint8))
