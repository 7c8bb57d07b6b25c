"""Predictions of supervised networks, and the scores that are logged while they train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from episodes.records import LABEL_VALUES, Label

UNKNOWN = LABEL_VALUES["unknown"]


class Pyramid(Protocol):
    """An encoder that networks are built on, such as `Encoder` or `PlainEncoder`: feature maps at several strides.

    Levels go from shallow to deep; a level's stride is in input pixels per feature pixel.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps of images (n, 3, H, W) in [0, 1], each (n, channels, h, w)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Logits of pixels, (n, 1 + n_classes, H, W), index 0 background, and of whole images, (n, n_labels), or None."""

    classes: Tensor
    labels: Tensor | None = None


def lesion_logits(classes: Tensor) -> Tensor:
    """Return logits (n, H, W) of any lesion against background, of class logits (n, 1 + n_classes, H, W).

    Their sigmoid is the sum of the lesion classes' probabilities.
    """
    lesion = classes[:, 1] if classes.shape[1] == 2 else classes[:, 1:].logsumexp(1)
    return lesion - classes[:, 0]


def with_background(lesion: Tensor) -> Tensor:
    """Return class logits (n, 2, H, W) whose softmax is the sigmoid of lesion logits (n, H, W)."""
    return torch.stack([torch.zeros_like(lesion), lesion], dim=1)


def lesion_targets(label_maps: Tensor) -> Tensor:
    """Return lesion masks (n, H, W), 0.0 or 1.0, of label maps (n, H, W) with values as in `LABEL_VALUES`."""
    return (label_maps > 0).float()


def label_indices(labels: Tensor, names: Sequence[str]) -> Tensor:
    """Find labels (n,) with values as in `LABEL_VALUES` among the names: their places, -1 where one is not there.

    >>> label_indices(torch.tensor([0, 1, 2, 3]), ("benign", "malignant")).tolist()
    [-1, 0, 1, -1]
    """
    table = torch.full((len(LABEL_VALUES),), -1)
    for place, name in enumerate(names):
        table[LABEL_VALUES[cast(Label, name)]] = place
    return table.to(labels.device)[labels]


class SegmentationNetwork(nn.Module):
    """A network that gives lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1] when called.

    Its masks tell `classes` apart, background aside; whole images get one of its `labels`, if it has any.
    """

    trains_on = "images"
    classes: tuple[str, ...] = ("lesion",)
    labels: tuple[str, ...] = ()

    def predict(self, images: Tensor) -> Prediction:
        """Return the logits of all that the network tells apart, of images (n, 3, H, W) in [0, 1]."""
        return Prediction(with_background(self(images)))

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the training losses; `loss` is minimised, the others are watched.

        Images are (n, 3, H, W) in [0, 1], label maps (n, H, W) int64, values as in `LABEL_VALUES`, and the whole
        images' labels (n,) int64, likewise; only a network that gives labels looks at them.
        """
        raise NotImplementedError


def mask_scores(logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """Score thresholded lesion logits (n, H, W) by masks (n, H, W) of 0 and 1, without gradients.

    `dice` is the mean over the images that show a lesion (a missed one counts 0; NaN where none does), and `accuracy`
    the share of right pixels.
    """
    with torch.no_grad():
        predicted, truth = logits > 0, masks > 0
        overlap, total = (predicted & truth).sum((-2, -1)), predicted.sum((-2, -1)) + truth.sum((-2, -1))
        shown = truth.any(-1).any(-1)
        return {"dice": (2 * overlap[shown] / total[shown]).mean(), "accuracy": (predicted == truth).float().mean()}


def label_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of right image labels among those that are known, without gradient; NaN where none is.

    Logits are (n, n_labels), and targets (n,) indices or -1 for unknown.
    """
    with torch.no_grad():
        known = targets >= 0
        return (logits.argmax(1) == targets)[known].float().mean()
