"""Segmentation losses on logits."""

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
