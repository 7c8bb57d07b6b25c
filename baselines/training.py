"""Training batches of a supervised network: step i's images and masks depend on (seed, i) alone."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from episodes.episode import class_mask, image_tensor
from episodes.errors import SamplingError
from episodes.random_scanner import Pair, ScannerChoice, rescan
from episodes.records import Record
from episodes.store import Collection
from episodes.transforms import Augmentation, augmentation_seed


class ImageBatches(Dataset[dict[str, Tensor]]):
    """Batches of images and lesion masks, every image once per epoch in an order that depends on the seed.

    Args:
        collection: holds the records' pixels.
        records: what to train on.
        batch_size: images per step.
        augmentation: of each image with its mask, other at every visit.
        seed: of order, augmentation and scanner.
        scanner: `random` shows each image, after augmentation, as a random scanner of its own would.

    Raises:
        SamplingError: if there are no records.
    """

    def __init__(
        self,
        collection: Collection,
        records: Sequence[Record],
        batch_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        scanner: ScannerChoice = "recorded",
    ) -> None:
        if not records:
            raise SamplingError("no records to train on: every source is empty")
        self.collection = collection
        self.ids = sorted(record.id for record in records)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.scanner = scanner

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Images (batch, 3, H, W) in [0, 1] and masks (batch, H, W), 1 on a lesion."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        pairs = [self._pair(place) for place in places]
        images = image_tensor(np.stack([image for image, _ in pairs]))
        masks = np.stack([class_mask(label_map, "lesion") for _, label_map in pairs])
        return {"images": images, "masks": torch.from_numpy(masks).float()}

    def _pair(self, place: int) -> Pair:
        epoch, position = divmod(place, len(self.ids))
        record_id = self.ids[_order(self.seed, epoch, len(self.ids))[position]]
        seed = augmentation_seed(self.seed, place)
        pair = self.augmentation(self.collection.image(record_id), self.collection.label_map(record_id), seed=seed)
        return rescan([pair], self.seed, place)[0] if self.scanner == "random" else pair


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
