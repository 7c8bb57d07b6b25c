"""The expanding path: sizes, what each stage sees, and the published network's number of weights."""

import pytest
import torch
from torch import Tensor

from baselines.blocks import Upsampling, expand, expanding_stages, resized

CHANNELS, GRIDS = (4, 6, 8), ((67, 45), (34, 23), (17, 12))


def random_levels(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, c, *grid, generator=generator) for c, grid in zip(CHANNELS, GRIDS, strict=True)]


every_upsampling = pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])


@every_upsampling
def test_every_stage_has_the_size_of_the_level_it_reaches(upsampling: Upsampling) -> None:
    reached = expand(expanding_stages(CHANNELS, (16, 8), upsampling=upsampling), random_levels())
    assert [tuple(features.shape) for features in reached] == [(2, 16, 34, 23), (2, 8, 67, 45)]


@every_upsampling
def test_levels_of_one_size_are_joined_too(upsampling: Upsampling) -> None:
    """As dilated encoders give them."""
    levels = [torch.randn(1, channels, 9, 7) for channels in CHANNELS]
    reached = expand(expanding_stages(CHANNELS, (16, 8), upsampling=upsampling), levels)
    assert [tuple(features.shape[-2:]) for features in reached] == [(9, 7), (9, 7)]


@every_upsampling
def test_every_level_and_every_hint_is_seen(upsampling: Upsampling) -> None:
    stages = expanding_stages(CHANNELS, (16, 8), n_hints=3, upsampling=upsampling)
    inputs = [*random_levels(), torch.randn(2, 3, 10, 10)]
    for tensor in inputs:
        tensor.requires_grad_()
    finest = expand(stages, inputs[:3], inputs[3])[-1]
    for gradient in torch.autograd.grad(finest.square().sum(), inputs):
        assert bool((gradient.abs().sum((0, 2, 3)) > 0).all())


def test_transposed_convolutions_halve_the_channels_before_the_skip_joins() -> None:
    """The published network's four stages at width 64: a 2x2 convolution up, then two of 3x3, all with biases."""
    stages = expanding_stages((64, 128, 256, 512, 1024), (512, 256, 128, 64), upsampling="transposed", norm="none")
    expected = sum(
        (2 * out * 4 + 1) * out + (2 * out * 9 + 1) * out + (out * 9 + 1) * out for out in (512, 256, 128, 64)
    )
    assert sum(weight.numel() for weight in stages.parameters()) == expected


@pytest.mark.parametrize("stages", [(16,), (16, 8, 8)])
def test_stages_and_levels_must_go_together(stages: tuple[int, ...]) -> None:
    message = f"decoder_channels: {len(stages)} stages for 3 encoder levels; expected 2"
    with pytest.raises(ValueError, match=message):
        expanding_stages(CHANNELS, stages)


def test_maps_of_the_right_size_are_not_touched() -> None:
    maps = torch.rand(1, 2, 5, 4)
    assert resized(maps, maps.shape[-2:]) is maps


def test_resizing_is_bilinear_between_pixel_centres() -> None:
    found = resized(torch.tensor([[[[0.0, 4.0]]]]), [1, 4])
    assert found.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]
