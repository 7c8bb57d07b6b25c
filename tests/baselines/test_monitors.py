"""What is watched beside the loss, by hand."""

import math

import pytest
import torch

from baselines.prediction import label_accuracy, mask_scores


def test_masks_by_hand() -> None:
    """Dice 2/5 and, of a missed lesion, 0; the image without a lesion counts in the accuracy alone."""
    predicted = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0]]])
    truth = torch.tensor([[[0.0, 1, 1, 1, 0]], [[0, 0, 0, 1, 1]], [[0, 0, 0, 0, 0]]])
    scores = mask_scores(2.0 * predicted - 1, truth)
    assert scores["dice"].item() == pytest.approx((2 / 5 + 0) / 2)
    assert scores["accuracy"].item() == pytest.approx((2 + 3 + 4) / 15)


def test_without_a_lesion_there_is_no_dice() -> None:
    scores = mask_scores(torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 1, 2))
    assert math.isnan(scores["dice"].item())
    assert scores["accuracy"].item() == 0.5


def test_an_undecided_pixel_is_background() -> None:
    assert mask_scores(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))["accuracy"].item() == 1


def test_labels_by_hand() -> None:
    """Two of the three known are right."""
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]])
    assert label_accuracy(logits, torch.tensor([0, 1, 1, -1])).item() == pytest.approx(2 / 3)


def test_without_a_known_label_there_is_no_accuracy() -> None:
    assert math.isnan(label_accuracy(torch.zeros(2, 3), torch.tensor([-1, -1])).item())


def test_scores_carry_no_gradient() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    scores = [*mask_scores(logits, torch.ones(1, 4, 4)).values(), label_accuracy(logits[:, 0], torch.tensor([1]))]
    assert not any(score.requires_grad for score in scores)
