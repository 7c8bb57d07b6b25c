"""What every registered network keeps to, and how names and options become a network."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.encoders import EncoderError
from baselines.prediction import lesion_logits
from baselines.pyramid_panet import AggregatedEncoder
from baselines.unet import PlainEncoder
from episodes.records import LABELS
from episodes.storage.store import Collection
from fewshot.checkpoints import load_network, network_tensors, save_checkpoint
from fewshot.config.parsing import ConfigError, parse_config
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.networks import NETWORKS, build_network, checked_options, find_attribute
from fewshot.panet.network import PANet
from tests.fewshot.small_networks import ENCODER, MODELS, SMALL, assert_same_weights, small_network, training, weights

# Its strides are fixed.
ON_PLAIN = MODELS["unet"].model_copy(update={"output_stride": 32})

every_network = pytest.mark.parametrize("name", list(SMALL))
every_supervised_network = pytest.mark.parametrize(
    "name",
    [
        name
        for name, (_, model) in SMALL.items()
        if find_attribute(model.network, NETWORKS, "network").trains_on == "images"
    ],
)


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
    encoder, model = SMALL[name]
    described = {"encoder": encoder.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    save_checkpoint(path, network_tensors(network), {**described, "image_size": 64})
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
    state = torch.get_rng_state()
    first = weights(small_network(name, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
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


@every_supervised_network
@pytest.mark.parametrize("size", [(64, 64), (67, 45)])
def test_supervised_networks_predict_classes_and_labels_by_name(name: str, size: tuple[int, int]) -> None:
    network = small_network(name).eval()
    assert network.classes in {("lesion",), ("benign", "malignant")}
    assert set(network.labels) <= set(LABELS)
    images = random_images(2, *size)
    with torch.inference_mode():
        prediction = network.predict(images)
        lesions = network(images)
    assert prediction.classes.shape == (2, 1 + len(network.classes), *size)
    if network.labels:
        assert prediction.labels.shape == (2, len(network.labels))
    else:
        assert prediction.labels is None
    torch.testing.assert_close(lesion_logits(prediction.classes), lesions)


@every_supervised_network
def test_supervised_networks_train_whatever_is_known_of_lesions(name: str, linear_phantoms: Collection) -> None:
    """Also where no lesion's kind and no image's label is known, as in fine-tuning, or nothing shows a lesion."""
    case = training(name, linear_phantoms)
    batch = case.batches[0]
    unknown = {"label_maps": (batch["label_maps"] > 0) * 3, "labels": torch.full_like(batch["labels"], 3)}
    normal = {key: torch.zeros_like(batch[key]) for key in ("label_maps", "labels")}
    for known in (unknown, normal):
        loss = case.network.train().loss(**batch | known)["loss"]
        case.network.zero_grad()
        loss.backward()
        gradients = [weight.grad for weight in case.network.parameters() if weight.grad is not None]
        assert bool(loss.isfinite())
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert any(bool(gradient.any()) for gradient in gradients)


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


def test_the_plain_encoder_has_the_levels_of_the_model_and_options_of_its_own() -> None:
    encoder = EncoderConfig(name="plain", options={"width": 16, "norm": "batch"})
    network = build_network(encoder, ON_PLAIN, weights="none")
    assert isinstance(network.encoder, PlainEncoder)
    assert network.encoder.channels == (16, 32, 64)


def test_path_aggregation_stands_between_encoder_and_network() -> None:
    network = build_network(ENCODER, MODELS["unet"].model_copy(update={"pyramid": 24}))
    assert isinstance(network.encoder, AggregatedEncoder)
    assert network.encoder.channels == (24, 24, 24)


def test_a_network_of_one_s_own() -> None:
    model = ModelConfig(network="fewshot.panet.network:PANet", levels=(1,))
    assert isinstance(build_network(ENCODER, model), PANet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "unett"}, "network 'unett' is unknown; did you mean 'unet'?"),
        ({"network": "transformer"}, "network 'transformer' is unknown; there are panet, maml, unet"),
        ({"network": "no_such_module:Net"}, "network 'no_such_module:Net': No module named 'no_such_module'"),
        (
            {"network": "fewshot.panet.network:Nothing"},
            "network 'fewshot.panet.network:Nothing': module 'fewshot.panet.network' has no attrib",
        ),
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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("multitask-unet", {"labels": ["benign"]}, "labels: benign; expected two or three different ones"),
        ("multitask-unet", {"labels": ["benign", "cyst"]}, "labels.1: Input should be 'normal', 'benign' or"),
        (
            "multitask-unet",
            {"labels": ["benign", "malignant"], "label_weights": {"normal": 2}},
            "label_weights: normal is not among the labels",
        ),
        ("multitask-unet", {"label_dropout": [0.5, 0.3]}, "label_dropout: 2 shares for 1 hidden layers"),
        ("multitask-unet", {"upsampling": "nearest"}, "upsampling: Input should be 'bilinear' or 'transposed'"),
        ("unet", {"dropout": 2}, "dropout probability has to be between 0 and 1, but got 2.0"),
        ("deep-resnet", {"auxiliary_weights": [0.4]}, "auxiliary_weights: 1 for 2 stages; give one for each"),
        ("deep-resnet", {"class_weights": [1, 1]}, "class_weights.2: Field required"),
        ("deep-resnet", {"atrous_rates": [0]}, "atrous_rates: (0,); expected pixels from 1 up"),
        ("pyramid-panet", {"channels": 20}, "channels is 20; expected a multiple of 8, which group norm needs"),
        ("pyramid-panet", {"loss": "dice"}, "loss: Input should be 'bce-dice' or 'focal-dice'"),
    ],
)
def test_wrong_options_of_supervised_networks_are_explained_in_one_line(
    name: str, options: dict[str, Any], message: str
) -> None:
    model = MODELS[name]
    with pytest.raises(ConfigError) as caught:
        build_network(ENCODER, model.model_copy(update={"options": model.options | options}))
    assert str(caught.value).startswith(f"{name} options: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"width": 12, "norm": "group"},
            "plain encoder: width is 12; expected a multiple of 8, which group norm needs",
        ),
        ({"width": 0}, "plain encoder: width is 0; expected at least 1 channel"),
        ({"widht": 8}, "encoder options: widht: unknown key; did you mean 'width'?"),
        ({"norm": "layer"}, "encoder options: norm: Input should be 'group', 'batch' or 'none'"),
    ],
)
def test_wrong_options_of_the_plain_encoder_are_explained_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(EncoderConfig(name="plain", options=options), ON_PLAIN)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "plain", "weights": "imagenet"}, "weights: the plain encoder is trained from random weights"),
        ({"options": {"width": 8}}, "options: those are of the plain encoder; remove them, or set name to plain"),
    ],
)
def test_encoders_that_cannot_be_are_explained_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(values, EncoderConfig, "mine.yaml: encoder")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "output_stride", "message"),
    [
        ({"levels": [0, 1]}, 32, "encoder.options: levels: the model says which it reads; set model.levels"),
        ({}, 8, "model.output_stride: the plain encoder's strides are fixed; leave it out"),
    ],
)
def test_what_the_plain_encoder_would_not_heed_is_refused(
    options: dict[str, Any], output_stride: int, message: str
) -> None:
    model = ON_PLAIN.model_copy(update={"output_stride": output_stride})
    with pytest.raises(ConfigError, match=message):
        build_network(EncoderConfig(name="plain", options=options), model)


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
