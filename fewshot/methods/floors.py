"""Floors: methods that do not look at the image, and that any other must beat."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.sampling.episode import Support, class_mask
from fewshot.methods.contract import Ingredients, Sources


class Empty:
    """A method that predicts no lesion anywhere."""

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        del ingredients

    def adapt(self, support: Support | None) -> None:
        """Learn nothing."""

    def segment(self, images: Tensor, adapted: None) -> Tensor:
        """Compute logits (n, 2, H, W): background everywhere."""
        del adapted
        return torch.stack([torch.ones_like(images[:, 0]), torch.zeros_like(images[:, 0])], dim=1)


class CentreEllipse:
    """A method that predicts one mask for every image: where the sources' lesions lie on average.

    The average lesion mask is cut at the level that gives the highest mean Dice over the sources themselves. It comes
    out as an ellipse around the centre, since sonographers put the lesion there.
    """

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        self.sources = ingredients.sources

    def adapt(self, support: Support | None) -> Tensor:
        """Return the sources' average lesion (H, W), whatever the support set."""
        del support
        return torch.from_numpy(average_lesion(self.sources))

    def segment(self, images: Tensor, adapted: Tensor) -> Tensor:
        """Compute logits (n, 2, H, W): the same mask for every image."""
        lesion = adapted.to(images).expand(len(images), -1, -1)
        return torch.stack([1 - lesion, lesion], dim=1)


def average_lesion(sources: Sources, levels: int = 20) -> NDArray[np.bool_]:
    """Compute the sources' average lesion mask (H, W), cut at that of `levels` levels where it overlaps best."""
    n_lesions = len(sources.lesions())
    areas = np.zeros(n_lesions, np.int64)
    total: NDArray[np.int64] | None = None
    for start, masks in _lesion_masks(sources):
        areas[start : start + len(masks)] = masks.sum((1, 2))
        summed = masks.sum(0)
        total = summed if total is None else total + summed
    assert total is not None  # noqa: S101 - there is a lesion, or `lesions` would have complained
    average = total / n_lesions
    cuts = np.stack([average >= level for level in np.linspace(average.max(), 0, levels, endpoint=False)])
    overlaps = np.zeros((n_lesions, levels), np.int64)
    for start, masks in _lesion_masks(sources):
        # Whole numbers far below 2^24, which float32 holds exactly and multiplies fast.
        shared = masks.reshape(len(masks), -1).astype(np.float32) @ cuts.reshape(levels, -1).T.astype(np.float32)
        overlaps[start : start + len(masks)] = shared.astype(np.int64)
    dice = (2 * overlaps / (areas[:, None] + cuts.sum((1, 2)))).T.copy()
    best: NDArray[np.bool_] = cuts[int(np.argmax([row.mean() for row in dice]))]
    return best


def _lesion_masks(sources: Sources, block: int = 256) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield all lesion masks, (at most block, H, W) at once, with the place of the first: of 50,000 they are 3 GB."""
    records = sources.lesions()
    for start in range(0, len(records), block):
        label_maps = (sources.collection.label_map(record.id) for record in records[start : start + block])
        yield start, np.stack([class_mask(label_map, "lesion") for label_map in label_maps])
