"""Path aggregation: sizes, also where strides repeat, and that every level sees every other."""

import pytest
import torch
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.pyramid_panet import AggregatedEncoder, PathAggregation
from baselines.unet import PlainEncoder


def random_images(count: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("strides", "grids"),
    [
        ((4, 8, 16), [(16, 24), (8, 12), (4, 6)]),
        ((4, 8, 16), [(17, 12), (9, 6), (5, 3)]),  # odd
        ((4, 8, 8, 8), [(16, 24), (8, 12), (8, 12), (8, 12)]),  # dilated
        ((2, 16), [(34, 23), (5, 3)]),  # levels left out
        ((8,), [(9, 7)]),
    ],
)
def test_levels_keep_their_sizes(strides: tuple[int, ...], grids: list[tuple[int, int]]) -> None:
    channels = tuple(4 + 2 * place for place in range(len(strides)))
    neck = PathAggregation(channels, strides, 16)
    levels = neck([torch.randn(2, count, *grid) for count, grid in zip(channels, grids, strict=True)])
    assert [tuple(level.shape) for level in levels] == [(2, 16, *grid) for grid in grids]


def test_every_level_sees_every_other() -> None:
    """Deep ones see fine ones over the second way up, which a feature pyramid alone does not have."""
    neck = PathAggregation((4, 6, 8), (4, 8, 16), 16)
    inputs = [torch.randn(1, c, s, s, requires_grad=True) for c, s in ((4, 16), (6, 8), (8, 4))]
    for level in neck(inputs):
        gradients = torch.autograd.grad(level.square().sum(), inputs, retain_graph=True)
        assert all(bool(gradient.any()) for gradient in gradients)


def test_every_weight_is_reached() -> None:
    neck = PathAggregation((4, 6, 8), (4, 8, 16), 16)
    levels = neck([torch.randn(1, c, s, s) for c, s in ((4, 16), (6, 8), (8, 4))])
    sum(level.square().sum() for level in levels).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in neck.parameters())


def test_images_do_not_mix_in_training_either() -> None:
    neck = PathAggregation((4, 6), (4, 8), 16).train()
    levels = [torch.randn(3, c, s, s) for c, s in ((4, 16), (6, 8))]
    alone = [neck([level[i : i + 1] for level in levels]) for i in range(3)]
    for place, together in enumerate(neck(levels)):
        torch.testing.assert_close(together, torch.cat([levels[place] for levels in alone]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "strides"),
    [
        (Encoder("test_resnet", levels=(0, 1, 2)), (2, 4, 8)),
        (Encoder("resnet10t", levels=(1, 2, 3, 4), output_stride=8), (4, 8, 8, 8)),
        (PlainEncoder(levels=(0, 1, 2), width=8), (1, 2, 4)),
    ],
)
@pytest.mark.parametrize("size", [(64, 64), (67, 45)])
def test_an_aggregated_encoder_is_an_encoder(
    encoder: Encoder | PlainEncoder, strides: tuple[int, ...], size: tuple[int, int]
) -> None:
    aggregated = AggregatedEncoder(encoder, 16).eval()
    assert aggregated.channels == (16,) * len(strides)
    assert aggregated.strides == strides
    images = random_images(2, *size)
    with torch.inference_mode():
        expected = [(2, 16, *level.shape[-2:]) for level in encoder(images)]
        assert [tuple(level.shape) for level in aggregated(images)] == expected


def test_what_the_encoder_freezes_stays_frozen() -> None:
    aggregated = AggregatedEncoder(Encoder("test_resnet", levels=(1, 2), freeze_norm=True), 16).train()
    assert not any(module.training for module in aggregated.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize("out_channels", [12, 20])
def test_channels_that_group_norm_cannot_divide_are_refused(out_channels: int) -> None:
    with pytest.raises(ValueError, match=rf"num_channels \({out_channels}\) must be divisible"):
        PathAggregation((4, 6), (4, 8), out_channels)
