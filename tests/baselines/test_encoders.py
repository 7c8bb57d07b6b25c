"""Feature pyramids: what they compute, where their weights come from, and what is said when those do not fit."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from baselines.encoders import IMAGENET_MEAN, IMAGENET_STD, Encoder, EncoderError

SMALL = "test_resnet"  # timm's smallest: 0.4 million weights, a ResNet's four layers


def random_images(count: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def timm_weights(name: str, seed: int = 1) -> dict[str, Tensor]:
    """A whole network's tensors under timm's own names, all of them random."""
    generator = torch.Generator().manual_seed(seed)
    tensors = timm.create_model(name).state_dict()
    return {
        key: torch.rand(tensor.shape, generator=generator) + 0.5 if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
    }


def written(path: Path, tensors: dict[str, Tensor], keep: Callable[[str], bool] = lambda key: True) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in tensors.items() if keep(key)}, path)
    return path


def refusal(*arguments: str, **options: object) -> str:
    with pytest.raises(EncoderError) as caught:
        Encoder(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What comes out


@pytest.mark.parametrize(
    ("name", "levels", "output_stride", "channels", "strides"),
    [
        ("resnet18", (0, 1, 2, 3, 4), 32, (64, 64, 128, 256, 512), (2, 4, 8, 16, 32)),
        ("resnet18", (3,), 8, (256,), (8,)),
        ("resnet18", (2, 4), 16, (128, 512), (8, 16)),
        ("resnet50", (1, 3), 8, (256, 1024), (4, 8)),
        ("densenet121", (0, 1), 32, (64, 256), (2, 4)),
    ],
)
def test_channels_and_strides_are_those_of_the_feature_maps(
    name: str, levels: Sequence[int], output_stride: int, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    encoder = Encoder(name, levels=levels, output_stride=output_stride).eval()
    assert (encoder.channels, encoder.strides) == (channels, strides)
    with torch.inference_mode():
        maps = encoder(random_images())
    assert [tuple(level.shape) for level in maps] == [
        (2, count, 64 // stride, 96 // stride) for count, stride in zip(channels, strides, strict=True)
    ]


def test_odd_sizes_round_up() -> None:
    encoder = Encoder(SMALL, levels=(0, 2, 3)).eval()
    with torch.inference_mode():
        maps = encoder(random_images(1, 67, 45))
    assert [tuple(level.shape[-2:]) for level in maps] == [
        (math.ceil(67 / stride), math.ceil(45 / stride)) for stride in (2, 8, 16)
    ]


def test_images_are_normalised_as_imagenet_s() -> None:
    encoder = Encoder(SMALL, levels=(2,)).eval()
    images = random_images()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        expected = encoder.network((images - mean) / std)[0]
        torch.testing.assert_close(encoder(images)[0], expected)
    trained_with = timm.create_model("resnet18").default_cfg
    assert (trained_with["mean"], trained_with["std"]) == (IMAGENET_MEAN, IMAGENET_STD)


def test_checkpoints_hold_the_network_alone() -> None:
    assert all(key.startswith("network.") for key in Encoder(SMALL).state_dict())


# Frozen batch norms


@pytest.mark.parametrize("freeze_norm", [False, True])
def test_frozen_norms_keep_what_was_loaded(freeze_norm: bool) -> None:
    encoder = Encoder(SMALL, levels=(2,), freeze_norm=freeze_norm).train()
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    encoder(random_images())[0].sum().backward()
    assert norms
    for norm, mean in zip(norms, before, strict=True):
        assert norm.running_mean is not None
        assert norm.training != freeze_norm
        assert torch.equal(norm.running_mean, mean) == freeze_norm
        assert (norm.weight.grad is None) == freeze_norm
        assert norm.weight.requires_grad != freeze_norm
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.training and module.weight.grad is not None for module in convolutions)


def test_frozen_norms_stay_frozen_through_evaluation() -> None:
    encoder = Encoder(SMALL, freeze_norm=True)
    encoder.eval().train()
    assert not any(module.training for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    assert encoder.training


# Weights from a file


def test_a_whole_network_s_file_fills_its_pyramid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = timm_weights(SMALL)
    caplog.set_level(logging.INFO)
    encoder = Encoder(SMALL, weights=str(written(tmp_path / "net.safetensors", tensors)), levels=(1, 3))
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in encoder.network.state_dict().items())
    assert [record.getMessage() for record in caplog.records] == [
        "net.safetensors: filled bn1, conv1, layer1, layer2, layer3"
    ]


def test_a_file_may_end_before_the_network_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = timm_weights(SMALL)
    path = written(tmp_path / "half.safetensors", tensors, lambda key: not key.startswith(("layer4", "fc")))
    caplog.set_level(logging.INFO)
    Encoder(SMALL, weights=str(path), levels=(3,))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    caplog.clear()
    encoder = Encoder(SMALL, weights=str(path), levels=(3, 4))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "half.safetensors: filled bn1, conv1, layer1, layer2, layer3"),
        ("WARNING", "half.safetensors: left at random: layer4"),
    ]
    state = encoder.network.state_dict()
    assert torch.equal(state["layer3.0.conv1.weight"], tensors["layer3.0.conv1.weight"])
    assert not torch.equal(state["layer4.0.conv1.weight"], tensors["layer4.0.conv1.weight"])


def test_half_precision_is_widened(tmp_path: Path) -> None:
    tensors = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in timm_weights(SMALL).items()
    }
    encoder = Encoder(SMALL, weights=str(written(tmp_path / "half.safetensors", tensors)))
    for key, tensor in encoder.network.state_dict().items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[key].to(tensor.dtype))


def test_densenet_s_names_are_understood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """timm's pyramid says `features_conv0` where its network says `features.conv0`."""
    tensors = timm_weights("densenet121")
    path = written(tmp_path / "dense.safetensors", tensors, lambda key: "denseblock3" not in key)
    caplog.set_level(logging.INFO)
    encoder = Encoder("densenet121", weights=str(path), levels=(1,))
    state = encoder.network.state_dict()
    assert "features_conv0.weight" in state
    assert all(torch.equal(tensor, tensors[key.replace("_", ".", 1)]) for key, tensor in state.items())
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)


def test_weights_none_are_random() -> None:
    states = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            states.append(Encoder(SMALL).network.state_dict()["layer1.0.conv1.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


# What does not fit


def test_a_missing_or_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    expected = f"{path}: cannot be read as safetensors ("
    assert refusal(SMALL, weights=str(path)).startswith(expected)
    torch.save({"conv1.weight": torch.ones(1)}, path)
    assert refusal(SMALL, weights=str(path)).startswith(expected)
    assert refusal(SMALL, weights=str(path)).endswith("; check encoder.weights")


def test_another_architecture_s_file(tmp_path: Path) -> None:
    path = written(tmp_path / "dense.safetensors", {"features.conv0.weight": torch.ones(64, 3, 7, 7)})
    assert refusal(SMALL, weights=str(path)) == (
        f"{path}: holds no tensor of this encoder; is it another architecture's file?"
    )


def test_a_deeper_network_s_file(tmp_path: Path) -> None:
    tensors = timm_weights("resnet18") | {"layer1.0.conv1.weight": torch.ones(64, 64, 1, 1)}
    path = written(tmp_path / "deeper.safetensors", tensors)
    assert refusal("resnet18", weights=str(path)) == (
        f"{path}: layer1.0.conv1.weight is (64, 64, 1, 1), the encoder's is (64, 64, 3, 3);"
        " is it another architecture's file?"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet-18", {}, "encoder 'resnet-18' with levels (3,) and output stride 32: Unknown model (resnet-18)"),
        (SMALL, {"levels": (9,)}, "encoder 'test_resnet' with levels (9,) and output stride 32: "),
        ("densenet121", {"output_stride": 8}, "encoder 'densenet121' with levels (3,) and output stride 8: "),
    ],
)
def test_what_timm_does_not_have(name: str, options: dict[str, object], message: str) -> None:
    assert refusal(name, **options).startswith(message)
