"""MAML against an independent one, and what its inner loop moves, leaves alone and refuses."""

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from baselines.losses import bce_dice_loss
from baselines.unet import UNet
from episodes.sampling.episode import Support
from fewshot.config.parsing import ConfigError
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.maml import MAML, InnerLoop, learn2learn_maml
from fewshot.networks import build_network
from tests.fewshot.conftest import Trained
from tests.fewshot.small_networks import CPU, ENCODER, MODELS, assert_same_weights, weights

SIZE = (16, 12)
STEPS, RATE = 3, 0.05


class TwoConvolutions(nn.Module):
    """A pyramid of two levels. Its second layer is frozen on demand, as a frozen batch norm is."""

    channels, strides = (8, 16), (1, 2)

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.second.requires_grad_(not frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = F.silu(self.first(images - 0.5))
        return [first, F.silu(self.second(first))]


def tiny(*, frozen: bool = False, **options: Any) -> MAML:
    """In double precision up to the logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder: Any = TwoConvolutions(frozen)
        options = {"inner_steps": STEPS, "inner_rate": RATE, **options}
        return MAML(encoder, decoder_channels=(8,), **options).double()


def random_batch(n_way: int = 1, n_episodes: int = 2) -> dict[str, Tensor]:
    """Episodes as `MAML.loss` takes them, of two shots and three queries."""
    generator = torch.Generator().manual_seed(0)
    return {
        "support_images": torch.rand(n_episodes, n_way, 2, 3, *SIZE, generator=generator).double(),
        "support_masks": (torch.rand(n_episodes, n_way, 2, *SIZE, generator=generator) < 0.3).float(),
        "query_images": torch.rand(n_episodes, 3, 3, *SIZE, generator=generator).double(),
        "query_masks": torch.randint(0, 1 + n_way, (n_episodes, 3, *SIZE), generator=generator),
    }


def one_task() -> tuple[Tensor, Tensor]:
    batch = random_batch()
    return batch["support_images"][0], batch["support_masks"][0]


# Against an independent MAML


def plain_maml(network: MAML, batch: dict[str, Tensor], moved: list[str], second_order: bool) -> dict[str, Tensor]:
    """Gradients of the outer loss, with the U-Net as a function of its weights."""
    start = {name: weight.detach().requires_grad_() for name, weight in network.unet.named_parameters()}
    outer = torch.zeros(())
    for images, masks, queries, truths in zip(*batch.values(), strict=True):
        fast = dict(start)
        for _ in range(STEPS):
            inner = bce_dice_loss(functional_call(network.unet, fast, images[0]), masks[0])
            gradients = torch.autograd.grad(inner, [fast[name] for name in moved], create_graph=second_order)
            fast |= {name: fast[name] - RATE * step for name, step in zip(moved, gradients, strict=True)}
        outer = outer + bce_dice_loss(functional_call(network.unet, fast, queries), truths.float())
    gradients = torch.autograd.grad(outer / len(batch["query_images"]), list(start.values()))
    return dict(zip(start, gradients, strict=True))


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("adapted", ["all", "head"])
@pytest.mark.parametrize("frozen", [True, False])
def test_outer_gradients_equal_an_independent_maml(first_order: bool, adapted: str, frozen: bool) -> None:
    network, batch = tiny(adapted=adapted, first_order=first_order, frozen=frozen), random_batch()
    network.loss(**batch)["loss"].backward()
    trained = {name: weight for name, weight in network.unet.named_parameters() if weight.requires_grad}
    assert ("encoder.second.weight" in trained) != frozen
    moved = [name for name in trained if adapted == "all" or name.startswith("head.")]
    expected = plain_maml(network, batch, moved, second_order=not first_order)
    for name, weight in trained.items():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-5, atol=1e-8)


def test_the_orders_differ_in_the_outer_gradients_alone() -> None:
    gradients, losses = [], []
    for first_order in (True, False):
        network = tiny(first_order=first_order)
        losses.append(network.loss(**random_batch())["loss"])
        losses[-1].backward()
        gradients.append(network.unet.encoder.first.weight.grad)
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)


# The inner loop


@pytest.mark.parametrize(("adapted", "stays"), [("all", set()), ("head", {"encoder", "stages"})])
def test_the_inner_loop_moves_all_weights_or_the_head_alone(adapted: str, stays: set[str]) -> None:
    network = tiny(adapted=adapted)
    moved, _ = network.adapt(*one_task())
    pairs = zip(network.unet.named_parameters(), moved.named_parameters(), strict=True)
    unmoved = {name.split(".")[0] for (name, before), (_, after) in pairs if torch.equal(before, after)}
    assert unmoved == stays


@pytest.mark.parametrize("adapted", ["all", "head"])
def test_adapting_leaves_the_network_as_it_was(adapted: str) -> None:
    network = tiny(adapted=adapted)
    before = weights(network)
    network.adapt(*one_task())
    assert_same_weights(weights(network), before)
    assert all(weight.grad is None for weight in network.parameters())


def test_more_inner_steps_lower_the_support_loss() -> None:
    _, losses = tiny().adapt(*one_task(), steps=12)
    values = [float(loss) for loss in losses]
    assert len(values) == 12
    assert values == sorted(values, reverse=True)


def test_no_step_gives_the_network_itself() -> None:
    network, (images, masks) = tiny(), one_task()
    adapted, losses = network.adapt(images, masks, steps=0)
    assert losses == []
    assert torch.equal(adapted(images[0]), network(images[0]))


@pytest.mark.parametrize("first_order", [True, False])
def test_the_loss_is_the_same_where_nobody_asks_for_gradients(first_order: bool) -> None:
    network, batch = tiny(first_order=first_order), random_batch()
    with torch.no_grad():
        values = network.loss(**batch)
    assert not values["loss"].requires_grad
    assert values == {name: value.detach() for name, value in network.loss(**batch).items()}


def test_frozen_weights_stay() -> None:
    network = tiny(frozen=True)
    adapted, _ = network.adapt(*one_task())
    assert torch.equal(adapted.encoder.second.weight, network.unet.encoder.second.weight)
    assert not torch.equal(adapted.encoder.first.weight, network.unet.encoder.first.weight)


def test_half_precision_keeps_the_inner_loop_in_full() -> None:
    """Its gradients are not scaled, so those below 6e-8 would vanish."""
    network, (images, masks) = tiny().float(), one_task()
    full, _ = network.adapt(images.float(), masks)
    with torch.autocast("cpu", torch.float16):
        half, _ = network.adapt(images.float(), masks)
    assert_same_weights(weights(half), weights(full))


def test_more_than_one_way_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 ways: maml segments one, lesion against background"):
        tiny().loss(**random_batch(n_way=2))


# The method


def method(network: nn.Module, **options: Any) -> InnerLoop:
    return InnerLoop(Ingredients(network, Sources(None, ()), CPU), **options)  # type: ignore[arg-type]


def test_the_method_takes_the_steps_of_the_training_unless_told_otherwise(trained_maml: Trained, five: Support) -> None:
    network: Any = trained_maml.network
    images = five.images[0]
    with torch.inference_mode():
        logits = [
            (steps, method(network, steps=steps).segment(images, method(network, steps=steps).adapt(five)))
            for steps in (None, network.inner_steps, 0, 4)
        ]
        trained, same, unmoved, further = [tensor[:, 1] for _, tensor in logits]
        assert torch.equal(trained, same)
        assert torch.equal(unmoved, network(images))
        losses = [float(bce_dice_loss(tensor, five.masks[0])) for tensor in (unmoved, trained, further)]
    assert losses == sorted(losses, reverse=True)


def test_a_support_set_made_in_inference_mode_is_adapted_to(trained_maml: Trained, five: Support) -> None:
    with torch.inference_mode():
        made_there = Support(five.images * 1, five.masks * 1)
        adapted = method(trained_maml.network).adapt(made_there)
    assert_same_weights(weights(adapted), weights(method(trained_maml.network).adapt(five)))


def test_what_the_method_returns_holds_no_graph(trained_maml: Trained, five: Support) -> None:
    adapted = method(trained_maml.network).adapt(five)
    assert all(isinstance(weight, nn.Parameter) and not weight.requires_grad for weight in adapted.parameters())
    assert not adapted(five.images[0]).requires_grad


def test_without_a_support_set_the_network_is_used_as_it_is(trained_maml: Trained, five: Support) -> None:
    network: Any = trained_maml.network
    with torch.inference_mode():
        logits = method(network).segment(five.images[0], method(network).adapt(None))
        assert torch.equal(logits[:, 1], network(five.images[0]))


def test_fewer_than_no_steps_are_refused(trained_maml: Trained) -> None:
    with pytest.raises(ValueError, match="steps -1: expected 0 or more"):
        method(trained_maml.network, steps=-1)


# Construction


def test_a_checkpoint_holds_the_unet_and_nothing_else() -> None:
    network = build_network(ENCODER, MODELS["maml"])
    unet: Any = network.unet
    assert isinstance(unet, UNet)
    assert list(network.state_dict()) == [f"unet.{name}" for name in unet.state_dict()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_steps": 0}, "maml options: inner_steps 0, inner_rate 0.01; expected both above 0"),
        ({"inner_rate": -0.1}, "maml options: inner_steps 5, inner_rate -0.1; expected both above 0"),
        ({"adapted": "body"}, "maml options: adapted: Input should be 'all' or 'head'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    model = MODELS["maml"].model_copy(update={"options": {"decoder_channels": [32, 16], **options}})
    with pytest.raises(ConfigError, match=message):
        build_network(ENCODER, model)


def test_without_learn2learn_building_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "learn2learn.algorithms", None)
    with pytest.raises(ConfigError) as caught:
        build_network(ENCODER, MODELS["maml"])
    first, *commands = str(caught.value).splitlines()
    assert first.startswith("maml needs learn2learn (import of learn2learn.algorithms halted")
    assert [command.strip() for command in commands] == [
        'pip install "fewshot-bus[maml]"',
        'pip install --no-deps --config-settings=--build-option=build_ext "learn2learn==0.2.0"',
    ]


def test_what_gym_says_about_itself_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy(name: str) -> SimpleNamespace:
        print("Gym has been unmaintained since 2022", file=sys.stderr)
        warnings.warn("it does not support NumPy 2", DeprecationWarning, stacklevel=1)
        return SimpleNamespace(MAML=name)

    monkeypatch.setattr("fewshot.methods.maml.import_module", noisy)
    assert learn2learn_maml() == "learn2learn.algorithms"
    assert capsys.readouterr() == ("", "")
