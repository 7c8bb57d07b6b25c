"""A folder of a few annotated images as a support set."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.datasets import read_dataset
from episodes.errors import UserError
from episodes.images.decoding import read_size
from episodes.records import Record
from episodes.sampling.episode import Support, load_support
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.stores import default_cache


def load_support_folder(folder: Path, image_size: int, shots: int | None = None) -> Support:
    """The annotated images of a folder, in any layout that the reader `folder` reads.

    Args:
        folder: every image that is taken must show a lesion.
        image_size: working size.
        shots: how many images to take, the first by name; None for all.

    Raises:
        UserError: if there are fewer, a mask is missing, empty or not of its image's size, or two images show the same
            under different labels.
    """
    records = sorted(read_dataset("folder", folder), key=lambda record: record.id)
    if shots is not None and len(records) < shots:
        raise UserError(f"{folder}: holds {len(records)} images, of which {shots} were asked for; lower --shots")
    records = records[:shots]
    _require_equal_sizes(records)
    store = prepare_store(records, default_cache() / "stores", (image_size, image_size))
    if store.dropped:
        same = ", ".join(one.id for one in store.dropped)
        raise UserError(
            f"{folder}: {same}: show the same, but their labels differ; correct metadata.csv or take one out"
        )
    empty = [record.id for record, labels in zip(store.records, store.label_maps, strict=True) if not labels.any()]
    if empty:
        raise UserError(f"{folder}: {', '.join(empty)}: the mask is empty; outline the lesion or take the image out")
    return load_support(Collection([store]), [[record.id for record in store.records]])


def _require_equal_sizes(records: Sequence[Record]) -> None:
    """Refuse masks that are not of their image's size: stretched, an outline might not lie where it was drawn."""
    for record in records:
        height, width = read_size(record.image, record.frame)
        for mask in record.masks:
            rows, columns = read_size(mask)
            if (rows, columns) != (height, width):
                raise UserError(
                    f"{mask}: is {columns} x {rows} pixels, but {record.image.name} is {width} x {height};"
                    " give them one size"
                )


def image_hashes(images: NDArray[np.uint8]) -> list[str]:
    """By which grey images (n, H, W) are known again, whatever their files are called."""
    return [sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16] for image in images]


def support_hashes(support: Support) -> list[str]:
    """The hashes of a support set's images, as of the grey images that they were made of."""
    grey = (support.images.flatten(0, 1)[:, 0] * 255).round()
    return image_hashes(grey.cpu().numpy().astype(np.uint8))


def support_facts(support: Support | None) -> dict[str, Any] | None:
    """By which a support set is known again: its images and masks at the working size."""
    if support is None:
        return None
    masks = (support.masks.flatten(0, 1) > 0).byte().cpu().numpy()
    return {"images": list(support.ids[0]), "hashes": support_hashes(support), "masks": image_hashes(masks)}
