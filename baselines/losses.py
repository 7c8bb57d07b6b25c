"""Segmentation losses on logits."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice of each image, averaged (V-Net, Milletari et al. 2016, with plain sums).

    Args:
        logits: (n, H, W).
        targets: (n, H, W) in [0, 1].
        smooth: added to numerator and denominator, in pixels: an empty image predicted empty costs nothing.

    Returns:
        A scalar in [0, 1].
    """
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum((-2, -1))
    total = probabilities.sum((-2, -1)) + targets.sum((-2, -1))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def bce_dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice loss, equally weighted: the field's usual pair.

    Args:
        logits: (n, H, W).
        targets: (n, H, W) in [0, 1].

    Returns:
        A scalar.
    """
    return F.binary_cross_entropy_with_logits(logits, targets) + dice_loss(logits, targets)


ClassLoss = Literal["cross-entropy", "cross-entropy-dice", "focal-dice"]


def class_loss(logits: Tensor, classes: Tensor, kind: ClassLoss) -> Tensor:
    """The loss of a mask of several classes, by name.

    Args:
        logits: (n, classes, H, W); index 0 is background.
        classes: (n, H, W) int64, class indices.
        kind: `cross-entropy`, the same with the foreground classes' Dice loss added, or focal loss with Dice.

    Returns:
        A scalar. For two classes whose background logit is 0, `cross-entropy-dice` is `bce_dice_loss`.
    """
    per_pixel = F.cross_entropy(logits, classes, reduction="none")
    if kind == "cross-entropy":
        return per_pixel.mean()
    if kind == "focal-dice":
        per_pixel = focal(per_pixel)
    return per_pixel.mean() + class_dice_loss(logits, classes)


def focal(cross_entropy: Tensor, gamma: float = 2.0) -> Tensor:
    """Weigh down what is right already (focal loss, Lin et al., ICCV 2017, eq. 4).

    Args:
        cross_entropy: -log of the probability of the truth, any shape.
        gamma: how much; 0 leaves the cross-entropy as it is.
    """
    return (1 - (-cross_entropy).exp()) ** gamma * cross_entropy


def class_dice_loss(logits: Tensor, classes: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice of every foreground class and image, averaged; arguments as in `class_loss`."""
    probabilities = logits.softmax(1)[:, 1:]
    truths = F.one_hot(classes, logits.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    overlap = (probabilities * truths).sum((-2, -1))
    total = probabilities.sum((-2, -1)) + truths.sum((-2, -1))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()
