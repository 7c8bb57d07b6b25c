"""Scores of a training batch: what one watches beside the loss. Final scores are those of `episodes.metrics`."""

import torch
from torch import Tensor


def mask_scores(logits: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """How well thresholded masks fit.

    Args:
        logits: of lesions, (n, H, W).
        masks: (n, H, W), 0 or 1.

    Returns:
        `dice`, the mean over the images that show a lesion (a missed one counts 0; NaN where none does), and
        `accuracy`, the share of right pixels; without gradients.
    """
    with torch.no_grad():
        predicted, truth = logits > 0, masks > 0
        overlap, total = (predicted & truth).sum((-2, -1)), predicted.sum((-2, -1)) + truth.sum((-2, -1))
        shown = truth.any(-1).any(-1)
        return {"dice": (2 * overlap[shown] / total[shown]).mean(), "accuracy": (predicted == truth).float().mean()}


def label_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Share of right image labels among those that are known, without gradient; NaN where none is.

    Args:
        logits: (n, n_labels).
        targets: (n,) indices, -1 for unknown.
    """
    with torch.no_grad():
        known = targets >= 0
        return (logits.argmax(1) == targets)[known].float().mean()
