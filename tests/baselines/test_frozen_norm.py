"""Lean frozen batch norms: torch's own numbers, gradients included, from less memory."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from baselines.blocks import make_lean

CHANNELS = 6
every_kind = pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])


def random_norm(kind: Callable[[int], nn.Module], frozen: bool = True) -> nn.Sequential:
    """A batch norm with random weights and statistics, after a convolution through which gradients go on."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), kind(CHANNELS)).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.2)
    network[1].requires_grad_(not frozen)
    return network


def lean(network: nn.Module) -> nn.Module:
    copied = deepcopy(network)
    make_lean(copied)
    return copied


def random_maps(count: int = 2) -> Tensor:
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
    network, maps = random_norm(kind), random_maps().contiguous(memory_format=layout)
    found, expected = (gradients(norm, maps, dtype) for norm in (lean(network), network))
    assert torch.equal(found[0], expected[0])
    assert (found[0].dtype, found[0].stride()) == (expected[0].dtype, expected[0].stride())
    for ours, torch_s in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch_s, rtol=1e-5 if dtype == torch.float32 else 2e-2, atol=1e-6)


@every_kind
def test_derivatives_agree_with_differences_of_values(kind: Callable[[int], nn.Module]) -> None:
    network = lean(random_norm(kind)).double()
    maps = random_maps().double().requires_grad_()
    assert torch.autograd.gradcheck(network, (maps,))
    assert torch.autograd.gradgradcheck(network, (maps,))


def test_functional_gradients_go_through() -> None:
    network, maps = random_norm(nn.BatchNorm2d), random_maps()

    def loss(bias: Tensor, norm: nn.Module) -> Tensor:
        output: Tensor = torch.func.functional_call(norm, {"0.bias": bias}, (maps,))
        return output.square().sum()

    bias = torch.ones(CHANNELS)
    expected = torch.func.grad(loss)(bias, network)
    torch.testing.assert_close(torch.func.grad(loss)(bias, lean(network)), expected)


@every_kind
def test_no_map_that_came_in_is_kept_for_the_backward_pass(kind: Callable[[int], nn.Module]) -> None:
    network = random_norm(kind)
    maps = torch.rand(2, CHANNELS, 5, 4, requires_grad=True) * 1.0
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
    network, maps = random_norm(kind, frozen=False).train(training), random_maps(8)
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
    network(random_maps())
    assert calls == [1]


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm2d])
def test_other_norms_are_left_alone(kind: Callable[[int], nn.Module]) -> None:
    network = nn.Sequential(kind(CHANNELS))
    make_lean(network)
    assert type(network[0]) is kind


def test_a_norm_without_weights_is_torch_s_own() -> None:
    norm = nn.BatchNorm2d(3, affine=False).eval()
    assert torch.equal(lean(norm)(random_maps()), norm(random_maps()))
