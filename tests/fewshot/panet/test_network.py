"""PANet with options: what must not matter (batching, the order of shots and ways), losses, and bad input."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from episodes.sampling.episode import Support
from fewshot.config.parsing import ConfigError
from fewshot.features import Features
from fewshot.networks import build_network
from fewshot.panet.network import Adapted, PANet, Prototypes
from tests.fewshot.panet_variants import (
    NOISE_SIZE,
    RandomEncoder,
    blob_episodes,
    random_batch,
    supports,
    variant_config,
    variant_network,
)
from tests.fewshot.small_networks import ENCODER

SETTINGS = [(1, 1), (1, 5), (2, 3)]


def vectors(adapted: Adapted) -> Tensor:
    """The prototypes of the one matched level, (1 + n_way, channels)."""
    (level,) = adapted
    assert isinstance(level, Prototypes)
    return level.vectors[0, 0]


@pytest.fixture
def network() -> PANet:
    return PANet(RandomEncoder())  # type: ignore[arg-type]


# Weights and temperature


def test_the_alignment_weight_weighs_or_leaves_out() -> None:
    batch = random_batch(1, 1)
    half = PANet(RandomEncoder(), alignment_weight=0.5).loss(**batch)  # type: ignore[arg-type]
    torch.testing.assert_close(half["loss"], half["segmentation"] + 0.5 * half["alignment"])
    none = PANet(RandomEncoder(), alignment_weight=0).loss(**batch)  # type: ignore[arg-type]
    assert none.keys() == {"loss", "segmentation"}
    torch.testing.assert_close(none["loss"], half["segmentation"])


def test_the_temperature_scales_the_logits(network: PANet) -> None:
    batch = random_batch(1, 1)
    support = supports(batch)[0]
    cold = PANet(RandomEncoder(), temperature=10.0)  # type: ignore[arg-type]
    logits = [model.segment(batch["query_images"][0], model.adapt(support)) for model in (network, cold)]
    torch.testing.assert_close(logits[0], 2 * logits[1])


# What must not matter


@pytest.mark.parametrize(("n_way", "n_shot"), SETTINGS)
def test_a_batch_is_the_mean_of_its_episodes(network: PANet, n_way: int, n_shot: int) -> None:
    batch = random_batch(n_way, n_shot)
    together = network.loss(**batch)
    alone = [network.loss(**{name: tensor[i : i + 1] for name, tensor in batch.items()}) for i in range(3)]
    for name in ("loss", "segmentation", "alignment"):
        torch.testing.assert_close(together[name], torch.stack([losses[name] for losses in alone]).mean())


def test_the_order_of_shots_does_not_matter(network: PANet) -> None:
    batch = random_batch(2, 3)
    shuffled = dict(batch)
    for name in ("support_images", "support_masks"):
        shuffled[name] = batch[name][:, :, [2, 0, 1]]
    torch.testing.assert_close(network.loss(**shuffled)["loss"], network.loss(**batch)["loss"])
    for one, other in zip(supports(batch), supports(shuffled), strict=True):
        torch.testing.assert_close(vectors(network.adapt(one)), vectors(network.adapt(other)))


def test_exchanged_ways_exchange_channels(network: PANet) -> None:
    batch = random_batch(2, 3)
    exchanged = {
        "support_images": batch["support_images"].flip(1),
        "support_masks": batch["support_masks"].flip(1),
        "query_images": batch["query_images"],
        "query_masks": torch.tensor([0, 2, 1])[batch["query_masks"]],
    }
    torch.testing.assert_close(network.loss(**exchanged)["loss"], network.loss(**batch)["loss"])
    logits = [
        network.segment(batch["query_images"][0], network.adapt(supports(case)[0])) for case in (batch, exchanged)
    ]
    torch.testing.assert_close(logits[1], logits[0][:, [0, 2, 1]])


def test_features_and_images_give_the_same(network: PANet) -> None:
    batch = random_batch(2, 3)
    support, images = supports(batch)[0], batch["query_images"][0]
    prototypes = network.adapt(support)
    unseen = Support(torch.zeros_like(support.images), support.masks)
    from_features = network.adapt(unseen, network.encode(support.images))
    torch.testing.assert_close(vectors(from_features), vectors(prototypes))
    torch.testing.assert_close(
        network.segment(network.encode(images), from_features), network.segment(images, prototypes)
    )


def test_encoding_keeps_the_axes_before_the_channels(network: PANet) -> None:
    images = torch.rand(2, 3, 4, 3, *NOISE_SIZE, generator=torch.Generator().manual_seed(1))
    encoded = network.encode(images)
    assert encoded.size == NOISE_SIZE
    assert encoded.deepest.shape == (2, 3, 4, 12, 10, 9)
    torch.testing.assert_close(encoded.deepest[1, 2], network.encode(images[1, 2]).deepest)


def test_a_support_image_is_segmented_by_its_own_prototypes(network: PANet) -> None:
    """A lesion that looks like nothing around it is found."""
    image, mask = torch.full((3, *NOISE_SIZE), 0.8), torch.zeros(NOISE_SIZE)
    mask[8:24, 8:24] = 1
    image[:, 8:24, 8:24] = torch.tensor([0.1, 0.5, 0.3]).view(3, 1, 1)
    adapted = network.adapt(Support(image[None, None], mask[None, None]))
    predicted = network.segment(image[None], adapted).argmax(1)[0]
    assert (predicted == mask).float().mean() > 0.9


def test_an_empty_support_mask_is_refused(network: PANet) -> None:
    with pytest.raises(ValueError, match="a mask is empty"):
        network.adapt(Support(torch.rand(1, 1, 3, *NOISE_SIZE), torch.zeros(1, 1, *NOISE_SIZE)))


def test_matching_stays_in_full_precision_under_autocast(network: PANet) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = network.loss(**random_batch(1, 1))
    assert {value.dtype for value in losses.values()} == {torch.float32}
    exact = network.loss(**random_batch(1, 1))
    torch.testing.assert_close(losses["segmentation"], exact["segmentation"], rtol=0.05, atol=0.05)


# With several levels, with a decoder


def test_the_deepest_level_alone_is_aligned() -> None:
    losses = [variant_network(name).loss(**blob_episodes(2, 2)) for name in ("published", "two levels")]
    torch.testing.assert_close(losses[1]["alignment"], losses[0]["alignment"])
    assert not torch.isclose(losses[1]["segmentation"], losses[0]["segmentation"])


def test_a_decoder_weighs_the_loss_on_its_similarity_maps() -> None:
    network, batch = variant_network("decoder"), blob_episodes(1, 2)
    with torch.inference_mode():
        losses = network.loss(**batch)
        total = losses["segmentation"] + 0.4 * losses["matching"] + losses["alignment"]
        torch.testing.assert_close(losses["loss"], total)
        network.matching_weight = 0
        assert "matching" not in network.loss(**batch)


@pytest.mark.parametrize("name", ["decoder", "ridge, prior, two levels, decoder"])
def test_a_decoder_that_says_nothing_leaves_the_similarity_as_it_is(name: str) -> None:
    network = variant_network(name)
    assert network.decoder is not None
    for parameter in network.decoder.head.parameters():
        torch.nn.init.zeros_(parameter)
    losses = network.loss(**blob_episodes(2, 2))
    torch.testing.assert_close(losses["segmentation"], losses["matching"])


# Bad input


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(network: PANet, value: float) -> None:
    support = supports(random_batch(1, 2))[0]
    features = network.encode(support.images)
    features.deepest[0, 1, 3, 2, 2] = value
    with pytest.raises(ValueError, match=r"the encoder's features are not finite; are its weights damaged\?"):
        network.adapt(support, features)
    with torch.no_grad():
        next(network.encoder.parameters()).fill_(value)
    with pytest.raises(ValueError, match="not finite"):
        network.adapt(support)


def test_a_level_that_is_not_matched_may_hold_anything(network: PANet) -> None:
    support = supports(random_batch(1, 1))[0]
    features = network.encode(support.images)
    damaged = Features((torch.full((1, 1, 3, 20, 18), float("nan")), features.deepest), features.size)
    assert torch.equal(vectors(network.adapt(support, damaged)), vectors(network.adapt(support, features)))


def test_support_and_query_of_different_sizes_are_refused(network: PANet) -> None:
    batch = random_batch(1, 1)
    message = r"^support images \(40, 36\) and query images \(40, 32\) differ in size; resize them to one$"
    with pytest.raises(ValueError, match=message):
        network.loss(**batch | {"query_images": batch["query_images"][..., :32]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matched_levels": 0}, "matched_levels is 0; the encoder has 1 levels"),
        ({"matched_levels": 2}, "matched_levels is 2; the encoder has 1 levels"),
        *(
            (
                {"matcher": "ridge", **option},
                "matcher: ridge has no prototypes for attention, grid or self_support; turn them off",
            )
            for option in ({"attention": True}, {"grid": 4}, {"self_support": True})
        ),
        ({"grid": -1}, "grid is -1; expected the cells along a side, or 0 for none"),
        ({"prior": True, "support_dropout": 1.0}, "support_dropout is 1.0; expected a share from 0 to below 1"),
        ({"prior": True, "support_dropout": -0.1}, "support_dropout is -0.1; expected a share from 0 to below 1"),
        (
            {"support_dropout": 0.2},
            "support_dropout: without a prior an episode needs its support set; set prior: true",
        ),
        ({"temperature": 0.0}, "temperature is 0.0; expected a positive number"),
        ({"decoder_channels": [16]}, "decoder_channels: 1 stages for 1 encoder levels; expected 0"),
    ],
)
def test_options_that_do_not_go_together_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PANet(RandomEncoder(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"support_dropout": 0.2}, "support_dropout: without a prior an episode needs its support set"),
        ({"loss": "dice"}, "loss: Input should be 'cross-entropy', 'cross-entropy-dice' or 'focal-dice'"),
        ({"matcher": "svm"}, "matcher: Input should be 'prototypes' or 'ridge'"),
    ],
)
def test_a_configuration_is_told_of_them_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(ENCODER, variant_config("published").model_copy(update={"options": options}))
    assert str(caught.value).startswith(f"panet options: {message}")
    assert "\n" not in str(caught.value)
