"""The moving average of weights, against a plain loop."""

import pytest
import torch
from torch import Tensor, nn

from fewshot.training.learner import averaged


def changed_at_random(network: nn.Module, seed: int) -> None:
    """Give every weight and statistic another value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor += 1


def small() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    changed_at_random(network, 0)
    return network


@pytest.mark.parametrize("decay", [0.2, 0.9, 0.999])
def test_the_average_is_that_of_a_plain_loop(decay: float) -> None:
    network = small()
    average = averaged(network, decay)
    expected: dict[str, Tensor] = {}
    for n in range(30):
        changed_at_random(network, n)
        average.update_parameters(network)
        share = min(decay, (1 + n) / (10 + n)) if n else 0.0
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                before = expected.get(name, torch.zeros_like(tensor, dtype=torch.float64))
                expected[name] = share * before + (1 - share) * tensor
            else:
                expected[name] = tensor.clone()
    found = average.module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].to(tensor.dtype), tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_the_network_is_left_alone() -> None:
    network, twin = small(), small()
    average = averaged(network, 0.9)
    for seed in (1, 2):
        for other in (network, twin):
            changed_at_random(other, seed)
        average.update_parameters(network)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), twin.state_dict().values(), strict=True)
    )


def test_weights_that_never_change_are_their_own_average_to_the_bit() -> None:
    network = small()
    average = averaged(network, 0.99)
    for _ in range(20):
        average.update_parameters(network)
    for mine, theirs in zip(average.module.parameters(), network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_average_is_never_in_training_mode() -> None:
    assert not any(module.training for module in averaged(small().train(), 0.9).modules())
