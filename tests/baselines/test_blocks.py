"""Blocks: pairs of convolutions, the expanding path, initial weights, and frozen batch norms that keep less."""

import math
import random
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from baselines.blocks import (
    DoubleConvolution,
    Norm,
    Upsampling,
    expand,
    expanding_stages,
    initialise,
    make_lean,
    resized,
)


def random_maps(count: int, channels: int = 3, height: int = 7, width: int = 5) -> Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        ("none", (3 * 9 + 1) * 8 + (8 * 9 + 1) * 8),  # with biases
        ("group", 3 * 9 * 8 + 8 * 9 * 8 + 4 * 8),  # a scale and an offset per channel in their place
        ("batch", 3 * 9 * 8 + 8 * 9 * 8 + 4 * 8),
    ],
)
def test_sizes_stay_and_weights_are_those_of_two_convolutions(norm: Norm, count: int) -> None:
    block = DoubleConvolution(3, 8, norm)
    assert block(random_maps(2)).shape == (2, 8, 7, 5)
    assert sum(weight.numel() for weight in block.parameters()) == count
    assert sum(isinstance(layer, nn.Conv2d) for layer in block) == 2


@pytest.mark.parametrize(("norm", "alone"), [("group", True), ("none", True), ("batch", False)])
def test_in_training_images_meet_in_batch_norms_alone(norm: Norm, alone: bool) -> None:
    block, maps = DoubleConvolution(3, 8, norm).train(), random_maps(3)
    one_by_one = torch.cat([block(image.unsqueeze(0)) for image in maps])
    assert torch.allclose(block(maps), one_by_one, rtol=1e-4, atol=1e-5) == alone


def test_what_comes_out_is_not_negative() -> None:
    assert DoubleConvolution(3, 8)(random_maps(2)).detach().min().item() == 0


CHANNELS, GRIDS = (4, 6, 8), ((67, 45), (34, 23), (17, 12))


def random_levels(count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, c, *grid, generator=generator) for c, grid in zip(CHANNELS, GRIDS, strict=True)]


every_upsampling = pytest.mark.parametrize("upsampling", ["bilinear", "transposed"])


@every_upsampling
def test_every_stage_has_the_size_of_the_level_it_reaches(upsampling: Upsampling) -> None:
    reached = expand(expanding_stages(CHANNELS, (16, 8), upsampling=upsampling), random_levels())
    assert [tuple(features.shape) for features in reached] == [(2, 16, 34, 23), (2, 8, 67, 45)]


@every_upsampling
def test_levels_of_one_size_are_joined_too(upsampling: Upsampling) -> None:
    """As dilated encoders give them."""
    levels = [torch.randn(1, channels, 9, 7) for channels in CHANNELS]
    reached = expand(expanding_stages(CHANNELS, (16, 8), upsampling=upsampling), levels)
    assert [tuple(features.shape[-2:]) for features in reached] == [(9, 7), (9, 7)]


@every_upsampling
def test_every_level_and_every_hint_is_seen(upsampling: Upsampling) -> None:
    stages = expanding_stages(CHANNELS, (16, 8), n_hints=3, upsampling=upsampling)
    inputs = [*random_levels(), torch.randn(2, 3, 10, 10)]
    for tensor in inputs:
        tensor.requires_grad_()
    finest = expand(stages, inputs[:3], inputs[3])[-1]
    for gradient in torch.autograd.grad(finest.square().sum(), inputs):
        assert bool((gradient.abs().sum((0, 2, 3)) > 0).all())


def test_transposed_convolutions_halve_the_channels_before_the_skip_joins() -> None:
    """The published network's four stages at width 64: a 2x2 convolution up, then two of 3x3, all with biases."""
    stages = expanding_stages((64, 128, 256, 512, 1024), (512, 256, 128, 64), upsampling="transposed", norm="none")
    expected = sum(
        (2 * out * 4 + 1) * out + (2 * out * 9 + 1) * out + (out * 9 + 1) * out for out in (512, 256, 128, 64)
    )
    assert sum(weight.numel() for weight in stages.parameters()) == expected


@pytest.mark.parametrize("stages", [(16,), (16, 8, 8)])
def test_stages_and_levels_must_go_together(stages: tuple[int, ...]) -> None:
    message = f"decoder_channels: {len(stages)} stages for 3 encoder levels; expected 2"
    with pytest.raises(ValueError, match=message):
        expanding_stages(CHANNELS, stages)


def test_maps_of_the_right_size_are_not_touched() -> None:
    maps = torch.rand(1, 2, 5, 4)
    assert resized(maps, maps.shape[-2:]) is maps


def test_resizing_is_bilinear_between_pixel_centres() -> None:
    found = resized(torch.tensor([[[[0.0, 4.0]]]]), [1, 4])
    assert found.flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialise(network)
    return network


def test_convolutions_have_he_s_variance() -> None:
    """2 over the number of outputs that each input reaches: those of 128 kernels of 3x3."""
    weight = drawn(nn.Conv2d(64, 128, 3)).weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (128 * 9), rel=0.03)
    assert abs(float(weight.mean())) < 1e-3


def test_linear_layers_have_glorot_s_variance() -> None:
    weight = drawn(nn.Linear(300, 200)).weight.detach()
    assert float(weight.var()) == pytest.approx(2 / (300 + 200), rel=0.03)
    assert float(weight.abs().max()) <= math.sqrt(6 / (300 + 200))


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 4, 2), nn.Linear(8, 3)])
def test_weights_are_drawn_anew_and_biases_are_zero(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    before = layer.weight.detach().clone()
    drawn(layer)
    assert not torch.equal(layer.weight, before)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_layers_inside_others_are_reached_and_norms_stay() -> None:
    norm = nn.GroupNorm(2, 4)
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 2.0)
    inner = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), norm)
    before = inner[0].weight.detach().clone()
    drawn(nn.Sequential(inner, nn.ReLU()))
    assert not torch.equal(inner[0].weight, before)
    assert norm.weight.tolist() == [3.0] * 4
    assert norm.bias.tolist() == [2.0] * 4


def test_the_draw_depends_on_torch_s_seed_alone() -> None:
    state = random.getstate()
    first, same, other = (drawn(nn.Conv2d(4, 8, 3), seed).weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert random.getstate() == state


WIDTH = 6
every_kind = pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])


def random_norm(kind: Callable[[int], nn.Module], frozen: bool = True) -> nn.Sequential:
    """A batch norm with random weights and statistics, after a convolution through which gradients go on."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, WIDTH, 1), kind(WIDTH)).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.2)
    network[1].requires_grad_(not frozen)
    return network


def lean(network: nn.Module) -> nn.Module:
    copied = deepcopy(network)
    make_lean(copied)
    return copied


def maps_with_gradient(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 5, 4, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module, maps: Tensor, dtype: torch.dtype) -> list[Tensor]:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        output = network(maps)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return [output, *torch.autograd.grad(output.float().square().sum(), weights)]


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_torch_s_own(
    kind: Callable[[int], nn.Module], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    network, maps = random_norm(kind), maps_with_gradient().contiguous(memory_format=layout)
    found, expected = (gradients(norm, maps, dtype) for norm in (lean(network), network))
    assert torch.equal(found[0], expected[0])
    assert (found[0].dtype, found[0].stride()) == (expected[0].dtype, expected[0].stride())
    for ours, torch_s in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch_s, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-6)


@every_kind
def test_derivatives_agree_with_differences_of_values(kind: Callable[[int], nn.Module]) -> None:
    network = lean(random_norm(kind)).double()
    maps = maps_with_gradient().double().requires_grad_()
    assert torch.autograd.gradcheck(network, (maps,))
    assert torch.autograd.gradgradcheck(network, (maps,))


def test_functional_gradients_go_through() -> None:
    network, maps = random_norm(nn.BatchNorm2d), maps_with_gradient()

    def loss(bias: Tensor, norm: nn.Module) -> Tensor:
        output: Tensor = torch.func.functional_call(norm, {"0.bias": bias}, (maps,))
        return output.square().sum()

    bias = torch.ones(WIDTH)
    expected = torch.func.grad(loss)(bias, network)
    torch.testing.assert_close(torch.func.grad(loss)(bias, lean(network)), expected)


@every_kind
def test_no_map_that_came_in_is_kept_for_the_backward_pass(kind: Callable[[int], nn.Module]) -> None:
    network = random_norm(kind)
    maps = torch.rand(2, WIDTH, 5, 4, requires_grad=True) * 1.0
    kept: dict[str, list[int]] = {}
    for name, norm in (("torch", network[1]), ("lean", lean(network[1]))):
        kept[name] = []

        def keep(tensor: Tensor, found: list[int] = kept[name]) -> Tensor:
            found.append(tensor.data_ptr())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            norm(maps)
    assert maps.data_ptr() in kept["torch"]
    assert maps.data_ptr() not in kept["lean"]


@every_kind
@pytest.mark.parametrize("training", [False, True])
def test_a_norm_that_is_trained_is_as_torch_has_it(kind: Callable[[int], nn.Module], training: bool) -> None:
    network, maps = random_norm(kind, frozen=False).train(training), maps_with_gradient(8)
    copied = lean(network)
    found, expected = (gradients(norm, maps, torch.float32) for norm in (copied, network))
    assert all(map(torch.equal, found, expected))
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in copied.state_dict().items())


def test_names_tensors_and_hooks_stay() -> None:
    network = random_norm(BatchNormAct2d)
    before = network.state_dict(keep_vars=True)
    calls: list[int] = []
    network[1].register_forward_hook(lambda *_: calls.append(1))
    make_lean(network)
    after = network.state_dict(keep_vars=True)
    assert before.keys() == after.keys()
    assert all(after[key] is tensor for key, tensor in before.items())
    network(maps_with_gradient())
    assert calls == [1]


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm2d])
def test_other_norms_are_left_alone(kind: Callable[[int], nn.Module]) -> None:
    network = nn.Sequential(kind(WIDTH))
    make_lean(network)
    assert type(network[0]) is kind


def test_a_norm_without_weights_is_torch_s_own() -> None:
    norm = nn.BatchNorm2d(3, affine=False).eval()
    assert torch.equal(lean(norm)(maps_with_gradient()), norm(maps_with_gradient()))
