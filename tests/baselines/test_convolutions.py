"""Pairs of convolutions: their weights, and that group norm looks at one image at a time."""

import pytest
import torch
from torch import Tensor, nn

from baselines.blocks import DoubleConvolution, Norm


def random_maps(count: int, channels: int = 3, height: int = 7, width: int = 5) -> Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        ("none", (3 * 9 + 1) * 8 + (8 * 9 + 1) * 8),  # with biases
        ("group", 3 * 9 * 8 + 8 * 9 * 8 + 4 * 8),  # a scale and an offset per channel in their place
        ("batch", 3 * 9 * 8 + 8 * 9 * 8 + 4 * 8),
    ],
)
def test_sizes_stay_and_weights_are_those_of_two_convolutions(norm: Norm, count: int) -> None:
    block = DoubleConvolution(3, 8, norm)
    assert block(random_maps(2)).shape == (2, 8, 7, 5)
    assert sum(weight.numel() for weight in block.parameters()) == count
    assert sum(isinstance(layer, nn.Conv2d) for layer in block) == 2


@pytest.mark.parametrize(("norm", "alone"), [("group", True), ("none", True), ("batch", False)])
def test_in_training_images_meet_in_batch_norms_alone(norm: Norm, alone: bool) -> None:
    block, maps = DoubleConvolution(3, 8, norm).train(), random_maps(3)
    one_by_one = torch.cat([block(image.unsqueeze(0)) for image in maps])
    assert torch.allclose(block(maps), one_by_one, rtol=1e-4, atol=1e-5) == alone


def test_what_comes_out_is_not_negative() -> None:
    assert DoubleConvolution(3, 8)(random_maps(2)).detach().min().item() == 0
