"""The published contracting path: its channel plan, its sizes, and what it looks at."""

import pytest
import torch
from torch import Tensor

from baselines.blocks import Norm
from baselines.unet import PlainEncoder


def random_images(count: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_plan_is_the_published_one() -> None:
    """Channels double from 64 to 1024 while the size halves; two convolutions of 3x3 with biases at every level."""
    with torch.device("meta"):  # shapes alone
        encoder = PlainEncoder()
        maps = encoder(torch.empty(1, 3, 256, 192))
    assert encoder.channels == (64, 128, 256, 512, 1024)
    assert encoder.strides == (1, 2, 4, 8, 16)
    assert [tuple(level.shape) for level in maps] == [
        (1, 64, 256, 192),
        (1, 128, 128, 96),
        (1, 256, 64, 48),
        (1, 512, 32, 24),
        (1, 1024, 16, 12),
    ]
    blocks = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    expected = sum((before * 9 + 1) * after + (after * 9 + 1) * after for before, after in blocks)
    assert sum(weight.numel() for weight in encoder.parameters()) == expected == 18_842_048


@pytest.mark.parametrize(
    ("levels", "width", "channels", "strides"),
    [((0, 1), 8, (8, 16), (1, 2)), ((1, 3), 16, (32, 128), (2, 8)), ((2,), 8, (32,), (4,))],
)
def test_channels_and_strides_are_those_of_the_feature_maps(
    levels: tuple[int, ...], width: int, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    encoder = PlainEncoder(levels=levels, width=width)
    assert (encoder.channels, encoder.strides) == (channels, strides)
    assert [tuple(level.shape) for level in encoder(random_images())] == [
        (2, count, 64 // stride, 64 // stride) for count, stride in zip(channels, strides, strict=True)
    ]


def test_levels_do_not_depend_on_which_others_are_asked_for() -> None:
    every, some = PlainEncoder(levels=(0, 1, 2, 3), width=8), PlainEncoder(levels=(0, 2), width=8)
    state = every.state_dict()
    some.load_state_dict({key: state[key] for key in some.state_dict()})
    maps = every(random_images())
    for level, found in zip((0, 2), some(random_images()), strict=True):
        assert torch.equal(found, maps[level])


def test_odd_sizes_round_up_and_their_last_column_is_seen() -> None:
    encoder, images = PlainEncoder(levels=(0, 1, 2), width=8), random_images(1, 67, 45).requires_grad_()
    maps = encoder(images)
    assert [tuple(level.shape[-2:]) for level in maps] == [(67, 45), (34, 23), (17, 12)]
    (gradient,) = torch.autograd.grad(maps[2][..., -1].sum(), images)
    assert bool(gradient[0, 0, :, -1].any())


def test_it_looks_at_grey_alone() -> None:
    encoder, images = PlainEncoder(levels=(0, 1), width=8), random_images()
    other = images.clone()
    other[:, 1:] = 0.3
    assert all(torch.equal(a, b) for a, b in zip(encoder(images), encoder(other), strict=True))


def test_middle_grey_is_zero_to_it() -> None:
    assert not any(level.any() for level in PlainEncoder(levels=(0, 1, 2), width=8)(torch.full((1, 3, 16, 16), 0.5)))


@pytest.mark.parametrize(("norm", "alone"), [("none", True), ("group", True), ("batch", False)])
def test_in_training_images_meet_in_batch_norms_alone(norm: Norm, alone: bool) -> None:
    encoder, images = PlainEncoder(levels=(0, 1), width=8, norm=norm).train(), random_images(3)
    one_by_one = torch.cat([encoder(image.unsqueeze(0))[1] for image in images])
    assert torch.allclose(encoder(images)[1], one_by_one, rtol=1e-4, atol=1e-5) == alone


@pytest.mark.parametrize("levels", [(), (1, 0), (0, 0), (-1, 0)])
def test_levels_that_do_not_rise_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not rise from 0 or more"):
        PlainEncoder(levels=levels, width=8)


@pytest.mark.parametrize(
    ("width", "norm", "message"),
    [
        (0, "none", "width is 0; expected at least 1 channel"),
        (12, "group", "width is 12; expected a multiple of 8, which group norm needs"),
    ],
)
def test_widths_that_cannot_be_are_refused(width: int, norm: Norm, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlainEncoder(width=width, norm=norm)
    assert PlainEncoder(width=12, levels=(0,), norm="batch").channels == (12,)
