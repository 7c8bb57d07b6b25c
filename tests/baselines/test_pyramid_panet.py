"""Path aggregation, and the network on it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss, dice_loss
from baselines.pyramid_panet import AggregatedEncoder, PathAggregation, PyramidPANet
from baselines.unet import PlainEncoder


def small_network(encoder: Encoder | None = None, **options: Any) -> PyramidPANet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = encoder or Encoder("test_resnet", levels=(0, 1, 2))
        return PyramidPANet(encoder, **{"channels": 32, "refine_channels": 16, **options})


def random_batch(count: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 64, 64, generator=generator)
    kinds = torch.randint(1, 4, (count, 1, 1), generator=generator)
    return {"images": images, "label_maps": (images[:, 0] > 0.7) * kinds, "labels": kinds.flatten()}


def coarse_mask(network: PyramidPANet, batch: dict[str, Tensor]) -> Tensor:
    """Coarse lesion logits at the size of the finest level."""
    said: list[Tensor] = []
    handle = network.coarse_head.register_forward_hook(lambda module, inputs, output: said.append(output))
    network(batch["images"])
    handle.remove()
    return said[0]


@pytest.mark.parametrize("size", [(64, 64), (67, 45), (33, 70)])
def test_one_logit_per_pixel(size: tuple[int, int]) -> None:
    network, images = small_network().eval(), torch.rand(2, 3, *size)
    prediction = network.predict(images)
    assert prediction.classes.shape == (2, 2, *size)
    assert prediction.labels is None
    torch.testing.assert_close(prediction.classes.softmax(1)[:, 1], network(images).sigmoid())


def test_strides_that_repeat() -> None:
    encoder = Encoder("resnet10t", levels=(1, 2, 3, 4), output_stride=8)
    assert encoder.strides == (4, 8, 8, 8)
    assert small_network(encoder).eval()(torch.rand(1, 3, 67, 45)).shape == (1, 67, 45)


@pytest.mark.parametrize("kind", ["bce-dice", "focal-dice"])
def test_the_loss_is_the_refined_mask_s_and_a_share_of_the_coarse_one_s(kind: str) -> None:
    network, batch = small_network(loss=kind, coarse_weight=0.25).eval(), random_batch()
    masks = (batch["label_maps"] > 0).float()

    def cost(logits: Tensor) -> Tensor:
        if kind == "bce-dice":
            return bce_dice_loss(logits, masks)
        return sigmoid_focal_loss(logits, masks, alpha=-1, gamma=2, reduction="mean") + dice_loss(logits, masks)

    coarse = torch.nn.functional.interpolate(coarse_mask(network, batch), size=(64, 64), mode="bilinear").squeeze(1)
    refined = cost(network(batch["images"]))
    losses = network.loss(**batch)
    torch.testing.assert_close(losses["segmentation"], refined)
    torch.testing.assert_close(losses["loss"], refined + 0.25 * cost(coarse))
    assert losses.keys() == {"loss", "segmentation", "dice", "accuracy"}


def test_a_weight_of_zero_leaves_the_coarse_mask_out() -> None:
    losses = small_network(coarse_weight=0.0).eval().loss(**random_batch())
    assert losses["loss"] == losses["segmentation"]


def test_every_level_is_fused() -> None:
    """Adaptive feature pooling: places take the largest response among the levels, and each level has some."""
    network = small_network().train()
    network.loss(**random_batch())["loss"].backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in network.pool.parameters())


def test_attention_and_refinement_are_learned() -> None:
    network = small_network().train()
    network.loss(**random_batch())["loss"].backward()
    parts = [network.attention, network.refine, network.coarse_head]
    assert all(weight.grad is not None and bool(weight.grad.any()) for part in parts for weight in part.parameters())


def test_the_refinement_sees_the_encoder_s_finest_level() -> None:
    """Over a skip connection: also where the pyramid is cut off."""
    network, batch = small_network().eval(), random_batch()
    maps: list[Tensor] = []
    network.encoder.register_forward_hook(lambda module, inputs, output: maps.extend(output))
    network.attention.register_forward_hook(lambda module, inputs, output: output.detach())
    finest, *others = torch.autograd.grad(network(batch["images"]).sum(), maps, allow_unused=True)
    assert finest is not None
    assert bool(finest.any())
    assert others == [None, None]


def test_dropout_is_of_training_alone() -> None:
    network, plain, images = small_network(dropout=0.5), small_network(), random_batch()["images"]
    assert torch.equal(network.eval()(images), plain.eval()(images))
    network.dropout.train()
    assert not torch.equal(network(images), network(images))


def test_logits_are_full_precision_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert small_network().eval()(random_batch()["images"]).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 12}, "channels is 12; expected a multiple of 8"),
        ({"refine_channels": 0}, "refine_channels is 0; expected a multiple of 8"),
        ({"coarse_weight": -0.1}, "coarse_weight is -0.1; expected 0 or more"),
        ({"encoder": Encoder("test_resnet", levels=(2,))}, "expected at least two in `levels`"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_network(**options)


def test_one_picture_can_be_learned_by_heart() -> None:
    network, batch = small_network().train(), random_batch()
    batch["label_maps"] = torch.zeros(2, 64, 64, dtype=torch.int64)
    batch["label_maps"][:, 16:40, 20:44] = 1
    batch["images"] = 0.3 * batch["images"] + 0.5 * batch["label_maps"].unsqueeze(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        network.loss(**batch)["loss"].backward()
        optimizer.step()
    assert network.loss(**batch)["dice"] > 0.9


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
