"""Losses by hand, and against their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.losses import bce_dice_loss, dice_loss

CERTAIN = 100.0  # a logit whose sigmoid is 1 in float32


def logits_of(mask: Tensor) -> Tensor:
    return CERTAIN * (2 * mask - 1)


def test_dice_loss_by_hand() -> None:
    """Two pixels predicted, three true, one in common."""
    predicted = torch.tensor([[[1.0, 1, 0, 0, 0]]])
    truth = torch.tensor([[[0.0, 1, 1, 1, 0]]])
    assert dice_loss(logits_of(predicted), truth, smooth=0).item() == pytest.approx(1 - 2 / 5)
    assert dice_loss(logits_of(predicted), truth).item() == pytest.approx(1 - 3 / 6)


def test_undecided_pixels_count_half() -> None:
    truth = torch.tensor([[[1.0, 1, 0, 0]]])
    assert dice_loss(torch.zeros(1, 1, 4), truth, smooth=0).item() == pytest.approx(1 - 2 * 1 / (2 + 2))


def test_images_count_alike_whatever_their_lesion_s_size() -> None:
    truth = torch.zeros(2, 8, 8)
    truth[0, 0, 0] = 1
    truth[1, :, :4] = 1
    predicted = truth.clone()
    predicted[0] = 0  # the small lesion is missed
    assert dice_loss(logits_of(predicted), truth, smooth=0).item() == pytest.approx(0.5)


def test_an_empty_image_costs_nothing_if_predicted_empty() -> None:
    empty = torch.zeros(1, 8, 8)
    assert dice_loss(logits_of(empty), empty).item() == pytest.approx(0)
    assert dice_loss(logits_of(1 - empty), empty).item() == pytest.approx(1 - 1 / 65)


def test_both_losses_are_added() -> None:
    logits = torch.tensor([[[0.0, math.log(3)]]])  # probabilities 1/2 and 3/4
    truth = torch.tensor([[[0.0, 1.0]]])
    entropy = (math.log(2) + math.log(4 / 3)) / 2
    dice = 1 - (2 * 0.75 + 1) / (1.25 + 1 + 1)
    assert bce_dice_loss(logits, truth).item() == pytest.approx(entropy + dice)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    loss = bce_dice_loss(logits, torch.tensor([[[0.0, 1.0]]]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9))
def test_dice_loss_lies_between_0_and_1(seed: int, n: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, height, width, generator=generator)
    truth = (torch.rand(n, height, width, generator=generator) < 0.3).float()
    assert 0 <= dice_loss(logits, truth).item() <= 1
    better = logits + 2 * (2 * truth - 1)
    assert bce_dice_loss(better, truth).item() < bce_dice_loss(logits, truth).item()
