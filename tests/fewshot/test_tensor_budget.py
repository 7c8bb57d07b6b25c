"""A limit on what a network's weights take: known before they are allocated, and no hindrance below it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fewshot.config.parsing import ConfigError
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.networks import TensorBudget, TooLargeError, build_network
from tests.fewshot.small_networks import SMALL, assert_same_weights, small_network, weights


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(10**12),
        lambda: torch.zeros(10**6, 10**6),
        lambda: torch.ones((10**12,)),
        lambda: torch.full((10**12,), 1.0),
        lambda: torch.rand(10**12, generator=torch.Generator(), dtype=torch.float64),
        lambda: torch.randn(10**12),
        lambda: torch.arange(10**12),
        lambda: torch.linspace(0, 1, 10**12),
        lambda: torch.eye(10**6),
        lambda: nn.Linear(10**6, 10**6),
        lambda: nn.Conv2d(10**5, 10**5, 3),
        lambda: nn.Parameter(torch.empty(10**12)),
        lambda: nn.Sequential(*(nn.Linear(1_000, 1_000) for _ in range(10))),  # 4 MB each
    ],
)
def test_what_is_too_large_is_refused_before_its_memory_is_asked_for(make: Callable[[], Tensor | nn.Module]) -> None:
    with (
        pytest.raises(TooLargeError, match=r"^needs more than 20,000,000 bytes of weights$"),
        TensorBudget(20_000_000),
    ):
        make()


def test_what_fits_is_made_as_ever() -> None:
    torch.manual_seed(0)
    expected = nn.Conv2d(3, 8, 3).weight
    torch.manual_seed(0)
    with TensorBudget(3 * 8 * 9 * 4 + 8 * 4):
        found = nn.Conv2d(3, 8, 3).weight
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", SMALL)
def test_networks_are_the_same_with_and_without_a_limit(name: str) -> None:
    torch.manual_seed(0)
    encoder, model = SMALL[name]
    found = build_network(encoder, model, budget=2**30)
    assert_same_weights(weights(found), weights(small_network(name)))


def test_a_configured_network_beyond_its_budget_says_what_to_change() -> None:
    encoder = EncoderConfig(name="plain", options={"width": 60_000})
    with pytest.raises(ConfigError) as caught:
        build_network(encoder, ModelConfig(network="unet", levels=(0, 1)), budget=2**30)
    assert str(caught.value) == (
        "unet on plain: needs more than 1,073,741,824 bytes of weights; choose a smaller encoder, fewer channels or"
        " fewer levels"
    )


@pytest.mark.parametrize("name", ["os:system", "timeit:timeit", "builtins:exec", "pathlib:Path", "torch:nn"])
def test_what_is_no_network_is_never_called(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^network '{name}': is no torch.nn.Module; name a class that is one$"):
        build_network(EncoderConfig(name="test_resnet"), ModelConfig(network=name))
