"""Random weights: their variance by the published formulas, and what is left as it was."""

import math
import random

import pytest
import torch
from torch import nn

from baselines.blocks import initialise


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(network)
    return network


def test_convolutions_have_he_s_variance() -> None:
    """2 over the number of outputs that each input reaches: those of 128 kernels of 3x3."""
    weight = drawn(nn.Conv2d(64, 128, 3)).weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (128 * 9), rel=0.03)
    assert abs(float(weight.mean())) < 1e-3


def test_linear_layers_have_glorot_s_variance() -> None:
    weight = drawn(nn.Linear(300, 200)).weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (300 + 200), rel=0.03)
    assert float(weight.abs().max()) <= math.sqrt(6 / (300 + 200))


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 2), nn.Linear(8, 3)])
def test_weights_are_drawn_anew_and_biases_are_zero(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    before = layer.weight.detach().clone()
    drawn(layer)
    assert not torch.equal(layer.weight, before)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_layers_inside_others_are_reached_and_norms_stay() -> None:
    norm = nn.GroupNorm(2, 4)
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 2.0)
    inner = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), norm)
    before = inner[0].weight.detach().clone()
    drawn(nn.Sequential(inner, nn.ReLU()))
    assert not torch.equal(inner[0].weight, before)
    assert norm.weight.tolist() == [3.0] * 4
    assert norm.bias.tolist() == [2.0] * 4


def test_the_draw_depends_on_torch_s_seed_alone() -> None:
    state = random.getstate()
    first, same, other = (drawn(nn.Conv2d(4, 8, 3), seed).weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert random.getstate() == state
