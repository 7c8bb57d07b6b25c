"""Feature pyramids: what they compute, where their weights come from, and what is said when those do not fit."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
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

RESNET = (2, 4, 8, 16, 32)
CONVNEXT = (96, 192, 384, 768)


@pytest.mark.parametrize(
    ("name", "levels", "output_stride", "channels", "strides"),
    [
        ("resnet18", (0, 1, 2, 3, 4), 32, (64, 64, 128, 256, 512), RESNET),
        ("resnet18", (3,), 8, (256,), (8,)),
        ("resnet34", (2, 4), 16, (128, 512), (8, 16)),
        ("resnet50", (0, 1, 2, 3, 4), 32, (64, 256, 512, 1024, 2048), RESNET),
        ("resnet50", (1, 3), 8, (256, 1024), (4, 8)),
        ("densenet169", (0, 1, 2, 3, 4), 32, (64, 256, 512, 1280, 1664), RESNET),
        ("convnext_tiny", (0, 1, 2, 3), 32, CONVNEXT, (4, 8, 16, 32)),
        ("convnext_tiny", (0, 1, 2, 3), 8, CONVNEXT, (4, 8, 8, 8)),
        ("convnext_tiny", (1, 3), 16, (192, 768), (8, 16)),
        ("efficientnet_b0", (0, 2, 4), 16, (16, 40, 320), (2, 8, 16)),
        ("vgg11", (0, 2, 4), 32, (64, 256, 512), (1, 4, 16)),
        ("hrnet_w18_small", (1, 4), 32, (128, 1024), (4, 32)),
        ("test_vit", (0, 5), 32, (64, 64), (16, 16)),
    ],
)
def test_channels_and_strides_are_those_of_the_feature_maps(
    name: str, levels: Sequence[int], output_stride: int, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with torch.device("meta"):  # shapes alone
        encoder = Encoder(name, levels=levels, output_stride=output_stride).eval()
        maps = encoder(torch.empty(2, 3, 160, 192))
    assert (encoder.channels, encoder.strides) == (channels, strides)
    assert [tuple(level.shape) for level in maps] == [
        (2, count, 160 // stride, 192 // stride) for count, stride in zip(channels, strides, strict=True)
    ]


def test_levels_do_not_depend_on_which_others_are_asked_for() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        every = Encoder(SMALL, levels=(0, 1, 2, 3, 4)).eval()
    some = Encoder(SMALL, levels=(1, 3)).eval()
    some.load_state_dict({key: every.state_dict()[key] for key in some.state_dict()})
    with torch.inference_mode():
        maps = every(random_images())
        for level, found in zip((1, 3), some(random_images()), strict=True):
            assert torch.equal(found, maps[level])


def test_channels_come_first_also_where_the_network_has_them_last() -> None:
    with torch.device("meta"):
        encoder = Encoder("swin_tiny_patch4_window7_224", levels=(0, 3)).eval()
        maps = encoder(torch.empty(1, 3, 224, 224))
    assert [tuple(level.shape) for level in maps] == [(1, 96, 56, 56), (1, 768, 7, 7)]


def test_odd_sizes_round_up() -> None:
    encoder = Encoder(SMALL, levels=(0, 2, 3)).eval()
    with torch.inference_mode():
        maps = encoder(random_images(1, 67, 45))
    assert [tuple(level.shape[-2:]) for level in maps] == [
        (math.ceil(67 / stride), math.ceil(45 / stride)) for stride in (2, 8, 16)
    ]


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("resnet10t", IMAGENET_MEAN, IMAGENET_STD), (SMALL, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))],
)
def test_images_are_normalised_as_the_network_s_own_weights_expect(
    name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    encoder = Encoder(name, levels=(2,)).eval()
    images = random_images()
    means, stds = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    with torch.inference_mode():
        expected = encoder.network((images - means) / stds)[0]
        torch.testing.assert_close(encoder(images)[0], expected)


def test_checkpoints_hold_the_network_alone() -> None:
    assert all(key.startswith("network.") for key in Encoder(SMALL).state_dict())


# Frozen batch norms


def statistics(encoder: Encoder) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in encoder.state_dict().items() if "running" in key or "num_" in key}


@pytest.mark.parametrize("name", [SMALL, "test_efficientnet"])  # plain batch norms, and timm's with an activation
@pytest.mark.parametrize("freeze_norm", [False, True])
def test_frozen_norms_keep_what_was_loaded(name: str, freeze_norm: bool) -> None:
    encoder = Encoder(name, levels=(2,), freeze_norm=freeze_norm).train()
    before = statistics(encoder)
    encoder(random_images())[0].sum().backward()
    after = statistics(encoder)
    used = [key for key in before if not torch.equal(before[key], after[key])]
    assert bool(used) != freeze_norm
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.training != freeze_norm
        assert norm.weight.requires_grad != freeze_norm
        assert norm.weight.grad is None or not freeze_norm
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.training and module.weight.requires_grad for module in convolutions)


def test_frozen_norms_stay_frozen_through_evaluation() -> None:
    encoder = Encoder(SMALL, freeze_norm=True)
    encoder.eval().train()
    assert not any(module.training for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))
    assert encoder.training


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_batch_norm_freezes(kind: Callable[[int], nn.Module]) -> None:
    encoder = Encoder(SMALL, freeze_norm=True)
    encoder.set_submodule("network.layer1.0.bn1", kind(4))
    norm = encoder.train().get_submodule("network.layer1.0.bn1")
    assert not norm.training
    assert not any(weight.requires_grad for weight in norm.parameters())


def test_layer_norms_have_nothing_to_freeze_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    encoder = Encoder("test_convnext", freeze_norm=True)
    assert all(module.training for module in encoder.modules())
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    expected = "encoder test_convnext: has no batch norms, freeze_norm changes nothing"
    assert [record.getMessage() for record in caplog.records] == [expected]


# Frozen levels


@pytest.mark.parametrize(
    ("name", "n_levels"),
    [
        (SMALL, 5),
        ("densenet121", 3),  # children in a row, flattened
        ("test_convnext", 4),
        ("test_efficientnet", 5),  # children in a container
        ("mobilenetv3_small_050", 5),
        ("test_vit", 6),  # a whole network inside, and parameters outside of modules
    ],
)
def test_frozen_are_the_weights_that_the_shallow_levels_are_computed_with(name: str, n_levels: int) -> None:
    levels = tuple(range(n_levels))
    free = Encoder(name, levels=levels)
    assert all(parameter.requires_grad for parameter in free.parameters())
    maps = free(random_images())
    for frozen in range(1, n_levels + 1):
        reached = torch.autograd.grad(
            sum(level.sum() for level in maps[:frozen]), list(free.parameters()), allow_unused=True, retain_graph=True
        )
        expected = {key for (key, _), grad in zip(free.named_parameters(), reached, strict=True) if grad is not None}
        encoder = Encoder(name, levels=levels, frozen=frozen)
        assert {key for key, parameter in encoder.named_parameters() if not parameter.requires_grad} == expected


def test_frozen_levels_stay_as_they_are_through_training() -> None:
    encoder = Encoder(SMALL, levels=(1, 3), frozen=2).eval().train()
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    for _ in range(2):
        shallow, deep = encoder(random_images())
        assert not shallow.requires_grad
        optimizer.zero_grad()
        deep.sum().backward()
        optimizer.step()
    after = encoder.state_dict()
    changed = {key.split(".")[1] for key, tensor in after.items() if not torch.equal(tensor, before[key])}
    assert changed == {"layer2", "layer3"}
    assert encoder.training


def test_frozen_levels_are_counted_from_the_stem_whichever_are_given_out() -> None:
    encoder = Encoder(SMALL, levels=(3,), frozen=4)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(random_images())[0].requires_grad


@pytest.mark.parametrize("frozen", [-1, 5])
def test_no_more_levels_than_there_are_can_be_frozen(frozen: int) -> None:
    assert refusal(SMALL, levels=(1, 3), frozen=frozen) == (
        f"encoder 'test_resnet': {frozen} levels cannot be frozen, down to the deepest of levels (1, 3) there are 4;"
        " set encoder.frozen to 0 to 4"
    )


def test_levels_that_are_computed_side_by_side_cannot_be_frozen() -> None:
    with torch.device("meta"):
        assert refusal("hrnet_w18_small", frozen=1) == (
            "encoder 'hrnet_w18_small': its levels are not computed one after the other; set encoder.frozen to 0"
        )


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


@pytest.mark.parametrize(("name", "kept_inside"), [("test_vit", "model."), ("test_convnext", ""), ("test_nfnet", "")])
def test_names_are_understood_however_timm_keeps_its_modules(tmp_path: Path, name: str, kept_inside: str) -> None:
    tensors = timm_weights(name)
    state = Encoder(
        name, weights=str(written(tmp_path / "net.safetensors", tensors)), levels=(0, 1)
    ).network.state_dict()
    spelled = {key.replace(".", "_"): tensor for key, tensor in tensors.items()}
    assert all(key.startswith(kept_inside) for key in state)
    for key, tensor in state.items():
        assert torch.equal(tensor, spelled[key.removeprefix(kept_inside).replace(".", "_")])


def test_frozen_levels_must_be_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "half.safetensors", timm_weights(SMALL), lambda key: not key.startswith("layer2"))
    assert Encoder(SMALL, weights=str(path), frozen=2).channels
    assert refusal(SMALL, weights=str(path), frozen=3) == (
        f"{path}: does not hold layer2, which would stay random; lower encoder.frozen, or give a file that goes further"
    )


# The ImageNet weights that lie beside the checkout


@pytest.fixture
def shared_weights() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no encoder weights at {folder}")
    return folder


@pytest.mark.parametrize(
    ("name", "file", "levels"),
    [
        ("resnet18", "resnet18_imagenet_to_layer3", (0, 1, 2, 3)),
        ("resnet50", "resnet50_imagenet_to_layer3", (1, 3)),
        ("densenet169", "densenet169_imagenet_features", (0, 4)),
    ],
)
def test_imagenet_weights_fill_every_level_they_are_made_for(
    shared_weights: Path, caplog: pytest.LogCaptureFixture, name: str, file: str, levels: Sequence[int]
) -> None:
    caplog.set_level(logging.INFO)
    path = shared_weights / f"{file}.safetensors"
    encoder = Encoder(name, weights=str(path), levels=levels, frozen=2).eval()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    tensors = {key.replace(".", "_"): tensor for key, tensor in load_file(path).items()}
    for key, tensor in encoder.network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, tensors[key.replace(".", "_")].to(tensor.dtype))
    with torch.inference_mode():
        maps = encoder(random_images(1))
    assert all(bool(level.isfinite().all()) and float(level.std()) > 0.01 for level in maps)


def test_a_layer_that_the_imagenet_weights_lack_is_named(
    shared_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = shared_weights / "resnet18_imagenet_to_layer3.safetensors"
    Encoder("resnet18", weights=str(path), levels=(4,), frozen=4)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "resnet18_imagenet_to_layer3.safetensors: left at random: layer4")
    ]
    assert ": does not hold layer4, which would stay random; " in refusal(
        "resnet18", weights=str(path), levels=(4,), frozen=5
    )


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
        ("resnet-18", {}, "levels (3,) and output stride 32: Unknown model (resnet-18)"),
        (SMALL, {"levels": (9,)}, "levels (9,) and output stride 32: it has fewer levels"),
        ("test_vit", {"levels": (9,)}, "levels (9,) and output stride 32: feature index 9 is out of range (0 to 5)"),
        *(
            (
                name,
                {"output_stride": 8},
                "levels (3,) and output stride 8: its strides are fixed; set output_stride to 32",
            )
            for name in ("densenet121", "vgg11", "hrnet_w18_small", "test_vit")
        ),
        *(
            (SMALL, {"levels": levels}, f"levels {levels} and output stride 32: the levels do not rise from 0 or more,")
            for levels in ((3, 1), (1, 1), (-1,), ())
        ),
    ],
)
def test_what_timm_does_not_have(name: str, options: dict[str, object], message: str) -> None:
    with torch.device("meta"):
        assert refusal(name, **options).startswith(f"encoder {name!r} with {message}")
