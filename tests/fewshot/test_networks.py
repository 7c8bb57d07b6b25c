"""What every registered network keeps to, and how names and options become a network."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.encoders import EncoderError
from episodes.store import Collection
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.config import EncoderConfig, ModelConfig
from fewshot.networks import NETWORKS, build_network, checked_options, find_attribute
from fewshot.panet import PANet
from fewshot.parsing import ConfigError
from tests.fewshot.small_networks import ENCODER, MODELS, assert_same_weights, small_network, training, weights

every_network = pytest.mark.parametrize("name", list(NETWORKS))


def output(network: nn.Module, images: Tensor) -> Tensor:
    """What a network makes of images (n, 3, H, W) without a support set: features or logits."""
    with torch.inference_mode():
        return network.encode(images).deepest if isinstance(network, PANet) else network(images)


def random_images(count: int, *size: int) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


# The contract


def test_every_network_is_tested() -> None:
    assert MODELS.keys() == NETWORKS.keys()


@every_network
def test_the_loss_is_finite_and_reaches_every_weight(name: str, linear_phantoms: Collection) -> None:
    case = training(name, linear_phantoms)
    for module in case.network.modules():
        # timm starts residual branches at zero, which stops gradients there.
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
    losses = case.network.train().loss(**case.batches[0])
    assert all(value.shape == () and bool(value.isfinite()) for value in losses.values())
    losses["loss"].backward()
    unreached = [key for key, weight in case.network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not unreached
    assert all(bool(weight.grad.isfinite().all()) for weight in case.network.parameters())


@every_network
def test_a_saved_network_gives_the_same_when_loaded(name: str, tmp_path: Path) -> None:
    network = small_network(name).eval()
    path = tmp_path / "checkpoint.safetensors"
    facts = {"encoder": ENCODER.model_dump(mode="json"), "model": MODELS[name].model_dump(mode="json")}
    save_checkpoint(path, network_tensors(network), facts)
    loaded, _ = load_network(path)
    assert not loaded.training
    assert_same_weights(weights(loaded), weights(network))
    images = random_images(2, 64, 64)
    assert torch.equal(output(loaded, images), output(network, images))


@every_network
@pytest.mark.parametrize("size", [(67, 45), (33, 96)])
def test_odd_image_sizes(name: str, size: tuple[int, int]) -> None:
    network = small_network(name).eval()
    images = random_images(2, *size)
    if isinstance(network, PANet):
        assert network.encode(images).size == size
    else:
        assert network(images).shape == (2, *size)
    assert bool(output(network, images).isfinite().all())


@every_network
def test_in_evaluation_an_image_does_not_depend_on_its_batch(name: str) -> None:
    network = small_network(name).eval()
    images = random_images(3, 64, 64)
    alone = torch.cat([output(network, image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(output(network, images), alone, rtol=1e-4, atol=1e-5)


@every_network
def test_random_weights_depend_on_the_seed_alone(name: str) -> None:
    first = weights(small_network(name, seed=1))
    torch.rand(5)  # moves the global generator, which must not matter
    assert_same_weights(weights(small_network(name, seed=1)), first)
    other = weights(small_network(name, seed=2))
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.items())


@every_network
def test_building_asks_nothing_of_the_internet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a connection was opened")

    for attribute in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, attribute, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert small_network(name).trains_on in {"episodes", "images"}


# From a configuration to a network


def test_weights_can_be_left_out_where_a_checkpoint_follows() -> None:
    encoder = EncoderConfig(name="resnet10t", weights="/nowhere.safetensors", freeze_norm=True)
    network = build_network(encoder, MODELS["unet"], weights="none")
    assert not network.train().encoder.network.bn1.training
    with pytest.raises(EncoderError, match=r"^/nowhere.safetensors: cannot be read as safetensors"):
        build_network(encoder, MODELS["unet"])


def test_options_reach_the_constructor() -> None:
    network = build_network(ENCODER, MODELS["panet"].model_copy(update={"options": {"temperature": 5}}))
    assert float(network.matching.cosine_temperature) == 5.0


def test_a_network_of_one_s_own() -> None:
    model = ModelConfig(network="fewshot.panet:PANet", levels=(1,))
    assert isinstance(build_network(ENCODER, model), PANet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unett"}, "network 'unett' is unknown; did you mean 'unet'?"),
        ({"network": "transformer"}, "network 'transformer' is unknown; there are panet, unet, maml"),
        ({"network": "no_such_module:Net"}, "network 'no_such_module:Net': No module named 'no_such_module'"),
        ({"network": "fewshot.panet:Nothing"}, "network 'fewshot.panet:Nothing': module 'fewshot.panet' has no attrib"),
        ({"options": {"decoder_chanels": [8, 8]}}, "decoder_chanels: unknown key; did you mean 'decoder_channels'?"),
        ({"options": {"decoder_channels": "wide"}}, "unet options: decoder_channels: 'str' instances are not allowed"),
        ({"options": {"decoder_channels": [8, 8, 8]}}, "decoder_channels: 3 stages for 3 encoder levels; expected 2"),
        (
            {"options": {"decoder_channels": [8, 9]}},
            "unet options: num_channels (9) must be divisible by num_groups (8)",
        ),
        ({"levels": (3,), "options": {"decoder_channels": []}}, "expected at least two in `levels`"),
    ],
)
def test_what_cannot_be_built_is_explained_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(ENCODER, MODELS["unet"].model_copy(update=changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_are_converted_and_completed() -> None:
    def build(first: object, *, rate: float = 0.5, steps: int) -> None: ...

    assert checked_options(build, {"steps": 3}, "mine", skip=1) == {"rate": 0.5, "steps": 3}
    with pytest.raises(ConfigError, match="mine: steps: Field required"):
        checked_options(build, {"rate": 1}, "mine", skip=1)
    with pytest.raises(ConfigError, match="mine: first: unknown key; valid keys: rate, steps"):
        checked_options(build, {"first": 1, "steps": 1}, "mine", skip=1)


def test_attributes_are_found_by_name_or_path() -> None:
    registry = {"flat": "pathlib:Path"}
    assert find_attribute("flat", registry, "thing") is find_attribute("pathlib:Path", registry, "thing") is Path
