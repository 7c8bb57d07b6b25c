"""Tensors of tasks and queries: what a specification's record ids look like as pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.augment.random_scanner import Pair, ScannerChoice, rescan
from episodes.augment.transforms import Augmentation, augmentation_seed
from episodes.records import LABEL_VALUES
from episodes.sampling.sampler import Class, EpisodeSpec
from episodes.storage.store import Collection


@dataclass(frozen=True, slots=True)
class Support:
    """The annotated images that a method adapts to: (n_way, n_shot, 3, H, W) in [0, 1].

    Masks are (n_way, n_shot, H, W), 1 where the pixel belongs to the way's class, else 0; record ids (n_way, n_shot),
    empty where the images have none.
    """

    images: Tensor
    masks: Tensor
    ids: tuple[tuple[str, ...], ...] = ()

    def to(self, device: torch.device) -> "Support":
        """Copy the support set to another device."""
        return Support(self.images.to(device), self.masks.to(device), self.ids)


@dataclass(frozen=True, slots=True)
class Episode:
    """An N-way K-shot task with its answers."""

    support_images: Tensor  # (n_way, n_shot, 3, H, W) in [0, 1]
    support_masks: Tensor  # (n_way, n_shot, H, W), 0 or 1
    query_images: Tensor  # (n_query, 3, H, W) in [0, 1]
    query_masks: Tensor  # (n_query, H, W) int64; 0 background, w + 1 where way w's class is
    spec: EpisodeSpec  # the specification it came from

    @property
    def support(self) -> Support:
        """Return the support set alone."""
        return Support(self.support_images, self.support_masks, self.spec.support)


def image_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Turn grey uint8 images (..., H, W) into floats (..., 3, H, W) in [0, 1]; the channels share their memory."""
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255).unsqueeze(-3)
    return grey.expand(*grey.shape[:-3], 3, *grey.shape[-2:])


def class_mask(label_map: NDArray[np.uint8], name: Class) -> NDArray[np.bool_]:
    """Return where a label map shows a class; `lesion` is every value above 0.

    >>> class_mask(np.array([[0, 1, 2, 3]], np.uint8), "lesion").tolist()
    [[False, True, True, True]]
    >>> class_mask(np.array([[0, 1, 2, 3]], np.uint8), "malignant").tolist()
    [[False, False, True, False]]
    """
    return label_map > 0 if name == "lesion" else label_map == LABEL_VALUES[name]


def load_support(
    collection: Collection, ids: Sequence[Sequence[str]], classes: Sequence[Class] = ("lesion",)
) -> Support:
    """Load the support set of these records, way by way: ids (n_way, n_shot)."""
    images = np.stack([np.stack([collection.image(i) for i in way]) for way in ids])
    masks = [
        np.stack([class_mask(collection.label_map(i), name) for i in way])
        for way, name in zip(ids, classes, strict=True)
    ]
    return Support(image_tensor(images), torch.from_numpy(np.stack(masks)).float(), tuple(map(tuple, ids)))


def load_episode(
    collection: Collection,
    spec: EpisodeSpec,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    scanner: ScannerChoice = "recorded",
) -> Episode:
    """Load the tensors of an episode from a collection that holds its records.

    Augmentation changes every image on its own, reproducibly from `seed`, the episode and the image's place. `scanner:
    random` then shows all images of the episode as one random scanner would, another in each episode: what tells a
    lesion there is best read from the support.
    """
    places = [*(i for way in spec.support for i in way), *spec.query]
    pairs = [(collection.image(i), collection.label_map(i)) for i in places]
    if augmentation is not None:
        pairs = [
            augment_keeping_classes(augmentation, pair, augmentation_seed(seed, spec.index, i))
            for i, pair in enumerate(pairs)
        ]
    if scanner == "random":
        pairs = rescan(pairs, seed, spec.index)
    n_way, n_shot = len(spec.support), len(spec.support[0])
    images = image_tensor(np.stack([image for image, _ in pairs]))
    labels = [label_map for _, label_map in pairs]
    support_masks = np.stack([class_mask(labels[i], spec.classes[i // n_shot]) for i in range(n_way * n_shot)])
    query_masks = np.stack([_ways(label_map, spec.classes) for label_map in labels[n_way * n_shot :]])
    height, width = images.shape[-2:]
    return Episode(
        images[: n_way * n_shot].reshape(n_way, n_shot, 3, height, width),
        torch.from_numpy(support_masks).float().reshape(n_way, n_shot, height, width),
        images[n_way * n_shot :],
        torch.from_numpy(query_masks),
        spec,
    )


def augment_keeping_classes(augmentation: Augmentation, pair: Pair, seed: int) -> Pair:
    """Augment a pair, unless a class would leave the picture: it would have no prototype."""
    augmented = augmentation(*pair, seed=seed)
    return augmented if np.array_equal(np.unique(augmented[1]), np.unique(pair[1])) else pair


def _ways(label_map: NDArray[np.uint8], classes: Sequence[Class]) -> NDArray[np.int64]:
    """Mark what a label map shows of an episode's classes, from 1 on in their order."""
    ways = np.zeros(label_map.shape, np.int64)
    for way, name in enumerate(classes, start=1):
        ways[class_mask(label_map, name)] = way
    return ways
