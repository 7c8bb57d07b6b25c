"""The contract that every variant of PANet keeps to, whatever its options."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.losses import class_loss
from episodes.sampling.episode import Support
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.networks import build_network
from fewshot.panet.network import PANet
from tests.fewshot.panet_variants import VARIANTS, WITH_PRIOR, blob_episodes, supports, variant_config, variant_network
from tests.fewshot.small_networks import ENCODER

SETTINGS = [(1, 1), (1, 5), (2, 3)]


@pytest.fixture(scope="module", params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> tuple[str, PANet]:
    """A kind's name, and such a network in evaluation mode; tests leave it as it is."""
    return request.param, variant_network(request.param)


@pytest.fixture(scope="module", params=WITH_PRIOR)
def with_prior(request: pytest.FixtureRequest) -> PANet:
    return variant_network(request.param)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """To what float32 leaves of 20 times a cosine; the solution of a ridge system is rounded more."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


def segmented(network: PANet, batch: dict[str, Tensor], episode: int = 0) -> Tensor:
    """Logits of an episode's queries, (n_query, 1 + n_way, H, W)."""
    with torch.inference_mode():
        return network.segment(batch["query_images"][episode], network.adapt(supports(batch)[episode]))


@pytest.mark.parametrize(("n_way", "n_shot"), SETTINGS)
def test_logits_have_a_channel_per_class_and_the_images_size_also_an_odd_one(
    variant: tuple[str, PANet], n_way: int, n_shot: int
) -> None:
    logits = segmented(variant[1], blob_episodes(n_way, n_shot, (67, 45), n_episodes=1))
    assert logits.shape == (2, 1 + n_way, 67, 45)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_and_reach_every_weight(name: str, precision: torch.dtype) -> None:
    network = variant_network(name).train()
    with torch.random.fork_rng(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        torch.manual_seed(0)  # one episode of three keeps its support set
        losses = network.loss(**blob_episodes(2, 3, n_episodes=3))
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    assert all(bool(value.isfinite()) for value in losses.values())
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    unreached = [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not unreached
    assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in network.parameters())


def test_shots_have_no_order_and_ways_are_channels(variant: tuple[str, PANet]) -> None:
    batch = blob_episodes(2, 3, n_episodes=1)
    logits = segmented(variant[1], batch)
    support = {name: batch[name] for name in ("support_images", "support_masks")}
    shuffled = batch | {name: tensor[:, :, [2, 0, 1]] for name, tensor in support.items()}
    assert_close(segmented(variant[1], shuffled), logits)
    exchanged = batch | {name: tensor.flip(1) for name, tensor in support.items()}
    assert_close(segmented(variant[1], exchanged), logits[:, [0, 2, 1]])


def test_another_support_set_gives_other_logits(variant: tuple[str, PANet]) -> None:
    batch, other = blob_episodes(1, 2, n_episodes=1), blob_episodes(1, 2, n_episodes=1, seed=1)
    logits = segmented(variant[1], batch)
    for name in ("support_images", "support_masks"):  # either matters
        difference = segmented(variant[1], batch | {name: other[name]}) - logits
        assert float(difference.abs().max()) > 0.01


def test_a_saved_variant_gives_the_same_when_loaded(variant: tuple[str, PANet], tmp_path: Path) -> None:
    name, network = variant
    path = tmp_path / "checkpoint.safetensors"
    described = {"encoder": ENCODER.model_dump(mode="json"), "model": variant_config(name).model_dump(mode="json")}
    save_checkpoint(path, network_tensors(network), {**described, "image_size": 64})
    loaded, _ = load_network(path)
    assert isinstance(loaded, PANet)
    batch = blob_episodes(2, 3, n_episodes=1)
    assert torch.equal(segmented(loaded, batch), segmented(network, batch))


def test_episodes_of_a_batch_do_not_mix_and_training_sees_what_evaluation_sees(variant: tuple[str, PANet]) -> None:
    name, network = variant
    batch = blob_episodes(2, 3)
    kind = VARIANTS[name].get("loss", "cross-entropy")
    with torch.inference_mode():
        together = network.loss(**batch)
        alone = [network.loss(**{key: tensor[i : i + 1] for key, tensor in batch.items()}) for i in range(2)]
        logits = torch.cat([segmented(network, batch, i) for i in range(2)])
        segmentation = class_loss(logits, batch["query_masks"].flatten(0, 1), kind)
    for key in together.keys() - {"unaligned"}:
        torch.testing.assert_close(
            together[key], torch.stack([losses[key] for losses in alone]).mean(), rtol=1e-3, atol=1e-3
        )
    torch.testing.assert_close(together["segmentation"], segmentation, rtol=1e-3, atol=1e-3)


def test_a_query_does_not_depend_on_the_others(variant: tuple[str, PANet]) -> None:
    batch = blob_episodes(1, 2, n_query=3, n_episodes=1)
    logits = segmented(variant[1], batch)
    for query in range(3):
        alone = segmented(variant[1], batch | {"query_images": batch["query_images"][:, query : query + 1]})
        assert_close(alone[0], logits[query])


def test_features_stand_for_images(variant: tuple[str, PANet]) -> None:
    network, batch = variant[1], blob_episodes(2, 3, n_episodes=1)
    support = supports(batch)[0]
    unseen = Support(torch.zeros_like(support.images), support.masks)
    with torch.inference_mode():
        adapted = network.adapt(unseen, network.encode(support.images))
        logits = network.segment(network.encode(batch["query_images"][0]), adapted)
    assert_close(logits, segmented(network, batch))


def test_half_precision_may_surround_adapting_and_segmenting(variant: tuple[str, PANet]) -> None:
    batch = blob_episodes(1, 2, n_episodes=1)
    exact = segmented(variant[1], batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits = segmented(variant[1], batch)
    assert logits.dtype == torch.float32
    assert float((logits - exact).abs().mean()) < 0.1 * float(exact.abs().mean())


def test_building_asks_nothing_of_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a connection was opened")

    for attribute in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, attribute, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert isinstance(build_network(ENCODER, variant_config("full")), PANet)


# Without a support set, or with less than one


def test_no_shots_at_all_leave_the_prior(with_prior: PANet) -> None:
    batches = [blob_episodes(n_way, 0, n_episodes=1) for n_way in (1, 2)]
    one, two = (segmented(with_prior, batch) for batch in batches)
    with torch.inference_mode():
        assert torch.equal(with_prior.segment(batches[0]["query_images"][0], with_prior.adapt(None)), one)
    assert two.shape == (2, 3, 32, 32)
    assert_close(two[:, 1], two[:, 2])  # nothing tells the ways apart


def test_support_dropout_trains_the_prior_alone() -> None:
    """As if there were no support set, in training mode alone."""
    network = variant_network("prior, support dropout")
    network.support_dropout = 0.9999999
    batch = blob_episodes(1, 2)
    with torch.inference_mode():
        whole = network.loss(**batch)["segmentation"]
        logits = torch.cat([network.segment(images, network.adapt(None)) for images in batch["query_images"]])
        network.training = True  # without the encoder: its batch norm would see the batch
        dropped = network.loss(**batch)["segmentation"]
    torch.testing.assert_close(dropped, class_loss(logits, batch["query_masks"].flatten(0, 1), "cross-entropy"))
    assert not torch.isclose(whole, dropped)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_emptied_mask_leaves_the_other_region_s_evidence(with_prior: PANet, value: float) -> None:
    batch = blob_episodes(1, 2, n_episodes=1)
    emptied = batch | {"support_masks": torch.full_like(batch["support_masks"], value)}
    logits = segmented(with_prior, emptied)
    assert bool(logits.isfinite().all())
    with torch.inference_mode():
        prior = with_prior.segment(batch["query_images"][0], with_prior.adapt(None))
    for other in (prior, segmented(with_prior, batch)):
        assert float((logits - other).abs().max()) > 0.01


@pytest.mark.parametrize("name", ["published", "attention", "grid", "ridge", "decoder"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_prior_both_regions_and_a_shot_are_needed(name: str, value: float) -> None:
    network, batch = variant_network(name), blob_episodes(1, 2, n_episodes=1)
    masks = batch["support_masks"].clone()
    masks[0, 0, 1] = value
    with pytest.raises(ValueError, match=r"^a mask is empty: an empty region has no prototype$"):
        segmented(network, batch | {"support_masks": masks})
    with pytest.raises(ValueError, match="a mask is empty"):
        network.loss(**batch | {"support_masks": masks})
    for support in (None, supports(blob_episodes(1, 0))[0]):
        with pytest.raises(ValueError, match=r"^prototypes need a support set: this network has no prior$"):
            network.adapt(support)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("n_way", "n_shot"), SETTINGS)
def test_images_learned_from_one_by_one_are_learned_from_as_together(name: str, n_way: int, n_shot: int) -> None:
    network, batch = variant_network(name), blob_episodes(n_way, n_shot)
    options = VARIANTS[name]
    more = [options.get(one) for one in ("attention", "grid", "prior")] + [options.get("matcher") == "ridge"]
    assert network.joins_images != any(more)
    if any(more):
        return
    support = supports(batch)[0]
    with torch.inference_mode():
        features = network.encode(support.images)
        singles = [Support(support.images[:, [shot]], support.masks[:, [shot]]) for shot in range(n_shot)]
        joined = network.join([network.adapt(one, network.encode(one.images)) for one in singles])
        found, expected = (
            network.segment(batch["query_images"][0], adapted) for adapted in (joined, network.adapt(support, features))
        )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [(0, 0), (-1, -1)])
def test_a_feature_that_is_not_finite_is_refused_wherever_it_is(
    name: str, value: float, place: tuple[int, int]
) -> None:
    network, support = variant_network(name), supports(blob_episodes(1, 1))[0]
    with torch.inference_mode():
        features = network.encode(support.images).map(torch.clone)
        features.deepest[0, 0, 1, place[0], place[1]] = value
        with pytest.raises(ValueError, match="features are not finite"):
            network.adapt(support, features)
