"""Floors: what any method must beat without looking at the image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from episodes.episode import Support, class_mask
from fewshot.methods import Ingredients, Sources


class Empty:
    """Predicts no lesion anywhere."""

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        del ingredients

    def adapt(self, support: Support | None) -> None:
        """Nothing to learn."""

    def segment(self, images: Tensor, adapted: None) -> Tensor:
        """Logits (n, 2, H, W): background everywhere."""
        del adapted
        return torch.stack([torch.ones_like(images[:, 0]), torch.zeros_like(images[:, 0])], dim=1)


class CentreEllipse:
    """Predicts one mask for every image: where the sources' lesions lie on average.

    The average lesion mask is cut at the level that gives the highest mean Dice over the sources themselves. It comes
    out as an ellipse around the centre, since sonographers put the lesion there.
    """

    uses_support = False

    def __init__(self, ingredients: Ingredients) -> None:
        self.sources = ingredients.sources

    def adapt(self, support: Support | None) -> Tensor:
        """The sources' average lesion (H, W), whatever the support set."""
        del support
        return torch.from_numpy(average_lesion(self.sources))

    def segment(self, images: Tensor, adapted: Tensor) -> Tensor:
        """Logits (n, 2, H, W): the same mask for every image."""
        lesion = adapted.to(images).expand(len(images), -1, -1)
        return torch.stack([1 - lesion, lesion], dim=1)


def average_lesion(sources: Sources, levels: int = 20) -> NDArray[np.bool_]:
    """The sources' average lesion mask (H, W), cut where it overlaps best with the single masks.

    Args:
        sources: the source datasets.
        levels: how many cuts between none and the whole are tried.
    """
    label_maps = (sources.collection.label_map(record.id) for record in sources.lesions())
    masks = np.stack([class_mask(label_map, "lesion") for label_map in label_maps])
    average = masks.mean(0)
    cuts = [average >= level for level in np.linspace(average.max(), 0, levels, endpoint=False)]
    areas = masks.sum((1, 2))

    def mean_dice(cut: NDArray[np.bool_]) -> float:
        overlaps = masks[:, cut].sum(1)
        return float((2 * overlaps / (areas + cut.sum())).mean())

    return max(cuts, key=mean_dice)
