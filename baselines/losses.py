"""Segmentation losses on logits."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.prediction import UNKNOWN, lesion_logits, lesion_targets

# Pixels, added to numerator and denominator of soft Dice: an empty image predicted empty costs nothing.
SMOOTH = 1.0


def soft_dice_loss(probabilities: Tensor, truths: Tensor, dims: tuple[int, ...] | None = (-2, -1)) -> Tensor:
    """Return one minus the soft Dice over `dims`: of each map (..., H, W) (V-Net, Milletari et al. 2016)."""
    overlap = (probabilities * truths).sum(dims)
    total = probabilities.sum(dims) + truths.sum(dims)
    return 1 - (2 * overlap + SMOOTH) / (total + SMOOTH)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Average the soft Dice loss of logits (n, H, W) over images, for targets (n, H, W) in [0, 1]; in [0, 1]."""
    return soft_dice_loss(logits.sigmoid(), targets).mean()


def bce_dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Add up binary cross-entropy and Dice loss, the field's usual pair, of logits (n, H, W) and targets in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, targets) + dice_loss(logits, targets)


ClassLoss = Literal["cross-entropy", "cross-entropy-dice", "focal-dice"]


def class_loss(logits: Tensor, classes: Tensor, kind: ClassLoss) -> Tensor:
    """Compute the loss of a mask of several classes, by name: a scalar.

    Logits are (n, classes, H, W), index 0 background, and classes (n, H, W) int64 class indices. `kind` is
    cross-entropy, the same with the foreground classes' Dice loss added, or focal loss with Dice. For two classes whose
    background logit is 0, `cross-entropy-dice` is `bce_dice_loss`.
    """
    per_pixel = F.cross_entropy(logits, classes, reduction="none")
    if kind == "cross-entropy":
        return per_pixel.mean()
    if kind == "focal-dice":
        per_pixel = focal_loss(per_pixel)
    return per_pixel.mean() + class_dice_loss(logits, classes)


def focal_loss(cross_entropy: Tensor, gamma: float = 2.0) -> Tensor:
    """Weigh down what is right already in a cross-entropy of any shape (focal loss, Lin et al., ICCV 2017, eq. 4).

    A `gamma` of 0 leaves it as it is.
    """
    return (1 - (-cross_entropy).exp()) ** gamma * cross_entropy


def class_dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Average the soft Dice loss over foreground classes and images; arguments as in `class_loss`."""
    probabilities = logits.softmax(1)[:, 1:]
    truths = F.one_hot(classes, logits.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    return soft_dice_loss(probabilities, truths).mean()


def label_map_loss(logits: Tensor, label_maps: Tensor, *, class_weights: Tensor, focal: bool = False) -> Tensor:
    """Add up cross-entropy and Dice loss of masks that tell benign from malignant; both know lesions of unknown kind.

    Of a lesion of unknown kind only that it is one is learned: its cross-entropy is of benign or malignant together.
    The Dice loss is `regions_dice_loss`.

    Args:
        logits: (n, 3, H, W), of background, benign and malignant.
        label_maps: (n, H, W) int64, values as in `LABEL_VALUES`.
        class_weights: of the three in the cross-entropy, (3,); an unknown lesion has the mean of both kinds.
        focal: weigh down what is right already.
    """
    unknown = label_maps == UNKNOWN
    classes = label_maps.masked_fill(unknown, 0)
    log_probabilities = logits.log_softmax(1)
    per_pixel = F.nll_loss(log_probabilities, classes, reduction="none")
    per_pixel = torch.where(unknown, -log_probabilities[:, 1:].logsumexp(1), per_pixel)
    weights = torch.cat([class_weights, class_weights[1:].mean().view(1)])[label_maps]
    if focal:
        per_pixel = focal_loss(per_pixel)
    cross_entropy = (weights * per_pixel).sum() / weights.sum().clamp_min(1e-6)
    return cross_entropy + regions_dice_loss(logits, label_maps)


def regions_dice_loss(logits: Tensor, label_maps: Tensor) -> Tensor:
    """Average the soft Dice losses of any lesion, of benign and of malignant ones, over those that there are.

    Any lesion counts as a region of its own, since to find one comes before to tell its kind: image by image, over
    those that show one, so that small lesions count as much as large ones. Benign and malignant count over the whole
    batch: most images hold one kind at most, and image by image the Dice of a kind that is not there is near 0 whatever
    is predicted, so that nothing but background would be learned.

    Args:
        logits: (n, 3, H, W), of background, benign and malignant.
        label_maps: (n, H, W) int64, values as in `LABEL_VALUES`; a lesion of unknown kind counts for any lesion alone.

    Returns:
        A scalar in [0, 1]; 0 where there is no lesion at all.
    """
    losses = []
    shown = (label_maps > 0).any(-1).any(-1)
    if bool(shown.any()):
        losses.append(dice_loss(lesion_logits(logits[shown]), lesion_targets(label_maps[shown])))
    known = ~(label_maps == UNKNOWN).any(-1).any(-1)
    probabilities = logits[known].softmax(1)
    for kind in (1, 2):
        predicted, truth = probabilities[:, kind], label_maps[known] == kind
        if bool(truth.any()):
            losses.append(soft_dice_loss(predicted, truth, dims=None))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def label_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weigh the cross-entropy of label logits (n, n_labels) and targets (n,) by weights of the labels (n_labels,).

    Images of target -1, for unknown, are left out; where all are, it is 0.
    """
    total = F.cross_entropy(logits, targets, weight=weights, ignore_index=-1, reduction="sum")
    return total / weights[targets[targets >= 0]].sum().clamp_min(1e-6)
