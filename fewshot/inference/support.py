"""Support sets of a few annotated images: decoded ones of any size, or those of a folder."""

import logging
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from episodes.datasets import read_dataset
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import decode_masks, read_image, read_size, stretch_image, stretch_labels
from episodes.images.grey_scales import describe_full_scales
from episodes.records import Record
from episodes.sampling.episode import Support, image_tensor
from episodes.storage.store import Store

logger = logging.getLogger(__name__)


def build_support(
    images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]], names: Sequence[str], image_size: int
) -> Support:
    """Build a support set of one way, as a store would hold it.

    Args:
        images: grey values (H, W) of any sizes, at least one; they are stretched (antialiased).
        masks: where each shows the lesion, (H, W) of its image's size; they are stretched by the nearest pixel, and
            something is left of each.
        names: of the images.
        image_size: working size.

    Returns:
        Images (1, n, 3, H, W) and masks (1, n, H, W) on the CPU.
    """
    size = (image_size, image_size)
    pixels = image_tensor(np.stack([stretch_image(image, size) for image in images]))
    lesions = np.stack([stretch_labels(mask.astype(np.uint8), size) for mask in masks])
    return Support(pixels.unsqueeze(0), torch.from_numpy(lesions).float().unsqueeze(0), (tuple(names),))


def load_support_folder(
    folder: Path, image_size: int, shots: int | None = None, *, invert_masks: bool = False
) -> Support:
    """Load the annotated images of a folder, in any layout that the reader `folder` reads.

    Args:
        folder: every image that is taken must show a lesion.
        image_size: working size.
        shots: how many images to take, the first by name; None for all.
        invert_masks: whether the masks have a light ground.

    Raises:
        UserError: if there are fewer, a mask is missing, empty, doubtful or not of its image's size, or two images show
            the same under different labels.
    """
    return load_support(folder, read_dataset("folder", folder, invert_masks=invert_masks), image_size, shots)


def load_support(folder: Path, records: Sequence[Record], image_size: int, shots: int | None = None) -> Support:
    """Load the annotated images of a folder that has been read; all else as `load_support_folder` does."""
    records = sorted(records, key=lambda record: record.id)
    if shots is not None and len(records) < shots:
        raise UserError(f"{folder}: holds {len(records)} images, of which {shots} were asked for; lower --shots")
    records = records[:shots]
    if not records:
        raise DatasetError("no records to prepare: the dataset is empty")
    for line in describe_full_scales(record.full_scale for record in records):
        logger.info("%s: %s", folder, line)
    _require_equal_sizes(records)
    images = [read_image(record.image, record.frame, record.full_scale) for record in records]
    masks = [_lesion(record, (image.shape[0], image.shape[1])) for record, image in zip(records, images, strict=True)]
    _require_no_contradiction(folder, records, images)
    if empty := [record.id for record, mask in zip(records, masks, strict=True) if not mask.any()]:
        raise UserError(f"{folder}: {', '.join(empty)}: the mask is empty; outline the lesion or take the image out")
    return build_support(images, masks, [record.id for record in records], image_size)


def _lesion(record: Record, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read where a support image of this size shows a lesion, (H, W); refuse what is doubtful."""
    found = decode_masks(record, size)
    if found.doubts:
        raise UserError(found.doubts[0])
    if record.label == "normal" and found.drawn.any():
        raise UserError(f"{record.image}: is labelled normal, but its mask marks a lesion; correct one of the two")
    return found.labels > 0


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


def _require_no_contradiction(folder: Path, records: Sequence[Record], images: Sequence[NDArray[np.uint8]]) -> None:
    """Refuse images that show the same under different labels."""
    if len({record.label for record in records}) < 2:
        return
    from episodes.curation.near_duplicates import duplicate_groups, settle_duplicates, thumbnail
    from episodes.curation.policy import require_some

    left = settle_duplicates(records, duplicate_groups(np.stack([thumbnail(image) for image in images])), "group")
    require_some(left, records[0].dataset)
    if left.dropped:
        same = ", ".join(one.id for one in left.dropped)
        raise UserError(
            f"{folder}: {same}: show the same, but their labels differ; correct metadata.csv or take one out"
        )


def image_hashes(images: NDArray[np.uint8]) -> list[str]:
    """Hash grey images (n, H, W), by which they are known again whatever their files are called."""
    return [sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16] for image in images]


def support_hashes(support: Support) -> list[str]:
    """Return the hashes of a support set's images, as of the grey images that they were made of."""
    grey = (support.images.flatten(0, 1)[:, 0] * 255).round()
    return image_hashes(grey.cpu().numpy().astype(np.uint8))


def record_hashes(stores: Iterable[Store]) -> dict[str, str]:
    """Hash the images of stores, by record id: a checkpoint knows images by hashes, as names say who they are of."""
    return {
        record.id: image_hashes(store.images[row : row + 1])[0]
        for store in stores
        for row, record in enumerate(store.records)
    }


def support_facts(support: Support | None) -> dict[str, Any] | None:
    """Return the names and hashes by which a support set is known again, at the working size."""
    if support is None:
        return None
    masks = (support.masks.flatten(0, 1) > 0).byte().cpu().numpy()
    return {"images": list(support.ids[0]), "hashes": support_hashes(support), "masks": image_hashes(masks)}
