"""Path aggregation for masks: sizes, both masks' losses, and what every part contributes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss, dice_loss
from baselines.pyramid_panet import PyramidPANet


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
