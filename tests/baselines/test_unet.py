"""The U-Net, its plain encoder, and the published plan."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.blocks import Norm
from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss
from baselines.unet import PlainEncoder, UNet


def small_unet(
    levels: tuple[int, ...] = (0, 1, 2), decoder_channels: tuple[int, ...] = (16, 8), **options: Any
) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet(Encoder("test_resnet", levels=levels), decoder_channels=decoder_channels, **options)


def random_images(count: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])
@pytest.mark.parametrize("size", [(64, 64), (96, 32), (67, 45), (33, 70)])
def test_one_logit_per_pixel(size: tuple[int, int], upsampling: str) -> None:
    assert small_unet(upsampling=upsampling).eval()(random_images(2, *size)).shape == (2, *size)


def test_over_a_plain_encoder_it_is_the_published_network() -> None:
    """Its 31 million weights, with one channel in and one out: the contracting path, four stages up, and the head."""
    up = sum((2 * c * 4 + 1) * c + (2 * c * 9 + 1) * c + (c * 9 + 1) * c for c in (512, 256, 128, 64))
    with torch.device("meta"):  # shapes alone
        network = UNet(PlainEncoder(), decoder_channels=(512, 256, 128, 64), upsampling="transposed", norm="none")
        assert network(torch.empty(1, 3, 96, 80)).shape == (1, 96, 80)
    assert sum(weight.numel() for weight in network.parameters()) == 18_842_048 + up + 65 == 31_030_593


@pytest.mark.parametrize(
    ("levels", "decoder_channels"), [((1, 2), (8,)), ((0, 2, 3), (16, 8)), ((0, 1, 2, 3, 4), (32, 16, 8, 8))]
)
def test_any_levels_of_an_encoder(levels: tuple[int, ...], decoder_channels: tuple[int, ...]) -> None:
    network = small_unet(levels, decoder_channels)
    assert network.eval()(random_images(1)).shape == (1, 64, 64)
    assert len(network.stages) == len(levels) - 1


@pytest.mark.parametrize(("levels", "decoder_channels"), [((0, 1, 2), (16,)), ((0, 1), (16, 8))])
def test_stages_and_levels_must_go_together(levels: tuple[int, ...], decoder_channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"decoder_channels: {len(decoder_channels)} stages for {len(levels)} encoder"):
        small_unet(levels, decoder_channels)


def test_one_level_is_no_u() -> None:
    with pytest.raises(ValueError, match="expected at least two"):
        small_unet((2,), ())


def test_every_level_contributes() -> None:
    network = small_unet().eval()
    maps: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: maps.extend(output))
    gradients = torch.autograd.grad(network(random_images(1)).sum(), maps)
    assert len(gradients) == 3
    assert all(bool(gradient.any()) for gradient in gradients)


def test_the_decoder_treats_every_image_alone_in_training_too() -> None:
    """Batch norms are in the encoder only: with those fixed, an image's output does not depend on its batch."""
    network = small_unet().train()
    network.encoder.eval()
    assert not [module for module in network.stages.modules() if isinstance(module, nn.BatchNorm2d)]
    images = random_images(3)
    alone = torch.cat([network(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(network(images), alone, rtol=1e-4, atol=1e-5)


def test_the_loss_is_that_of_its_logits_whatever_the_kind_of_lesion() -> None:
    network, images = small_unet().eval(), random_images(2)
    masks = (images[:, 0] > 0.7).float()
    for kind in (1, 2, 3):
        losses = network.loss(images, masks.long() * kind, torch.tensor([kind, 0]))
        assert losses.keys() == {"loss", "dice", "accuracy"}
        torch.testing.assert_close(losses["loss"], bce_dice_loss(network(images), masks))


def test_dropout_is_of_training_alone() -> None:
    network, plain, images = small_unet(dropout=0.5), small_unet(), random_images(2)
    assert torch.equal(network.eval()(images), plain.eval()(images))
    network.encoder.train(False)
    network.dropout.train()
    assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("dropout", [-0.1, 1.5])
def test_dropout_is_a_share(dropout: float) -> None:
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
        small_unet(dropout=dropout)


def test_logits_are_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert small_unet().eval()(random_images(1)).dtype == torch.float32


def test_one_picture_can_be_learned_by_heart() -> None:
    network = small_unet().train()
    images = random_images(1) * 0.3
    label_maps = torch.zeros(1, 64, 64, dtype=torch.int64)
    label_maps[:, 16:40, 20:44] = 1
    images[:, :, 16:40, 20:44] += 0.5
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        loss = network.loss(images, label_maps, torch.tensor([1]))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predicted = network(images) > 0
    overlap = 2 * (predicted & label_maps.bool()).sum() / (predicted.sum() + label_maps.sum())
    assert overlap.item() > 0.9


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
