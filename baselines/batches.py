"""Training batches of a supervised network: step i's images and masks depend on (seed, i) alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from episodes.augment.random_scanner import Pair, ScannerChoice, rescan
from episodes.augment.transforms import Augmentation, augmentation_seed
from episodes.errors import SamplingError
from episodes.records import LABEL_VALUES, Label, Record
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection

Balance = Literal["none", "labels"]


class ImageBatches(Dataset[dict[str, Tensor]]):
    """Batches of images, their label maps and labels, in an order that depends on the seed.

    Args:
        collection: holds the records' pixels.
        records: what to train on.
        batch_size: images per step.
        augmentation: of each image with its label map, other at every visit.
        seed: of order, augmentation and scanner.
        scanner: `random` shows each image, after augmentation, as a random scanner of its own would.
        balance: `none` shows every image once per epoch; with `labels` every image is drawn with replacement, and each
            label equally often.
        label_augmentation: of images of some labels, in place of `augmentation`.

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
        balance: Balance = "none",
        label_augmentation: Mapping[Label, Augmentation] | None = None,
    ) -> None:
        if not records:
            raise SamplingError("no records to train on: every source is empty")
        self.collection = collection
        self.labels = dict(sorted((record.id, record.label) for record in records))
        self.ids = list(self.labels)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.scanner = scanner
        self.balance = balance
        self.label_augmentation = label_augmentation or {}

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Load what a `loss` takes: `images` (batch, 3, H, W) in [0, 1], `label_maps` (batch, H, W), `labels` (batch,).

        The latter two are int64, with values as in `LABEL_VALUES`.
        """
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        ids = [self.ids[self._choice(place)] for place in places]
        pairs = [self._pair(record_id, place) for record_id, place in zip(ids, places, strict=True)]
        return {
            "images": image_tensor(np.stack([image for image, _ in pairs])),
            "label_maps": torch.from_numpy(np.stack([label_map for _, label_map in pairs])).long(),
            "labels": torch.tensor([LABEL_VALUES[self.labels[record_id]] for record_id in ids]),
        }

    def _choice(self, place: int) -> int:
        epoch, position = divmod(place, len(self.ids))
        if self.balance == "none":
            return int(_order(self.seed, epoch, len(self.ids))[position])
        chance = np.random.default_rng([self.seed, epoch, position]).random()
        return int(np.searchsorted(self._cumulative, chance, side="right"))

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """Return the cumulative chances by which each image is drawn, (n_images,)."""
        counts = Counter(self.labels.values())
        odds = np.array([1 / counts[label] for label in self.labels.values()])
        bounds = np.cumsum(odds / odds.sum())
        bounds[-1] = 1.0
        return bounds

    def _pair(self, record_id: str, place: int) -> Pair:
        augmentation = self.label_augmentation.get(self.labels[record_id], self.augmentation)
        seed = augmentation_seed(self.seed, place)
        pair = augmentation(self.collection.image(record_id), self.collection.label_map(record_id), seed=seed)
        return rescan([pair], self.seed, place)[0] if self.scanner == "random" else pair


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
