"""The training loop: it learns, resumes bit for bit, and neither workers nor processes change the result."""

import logging
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.utils.data import Dataset

from episodes.errors import UserError
from episodes.storage.store import Collection
from fewshot.checkpoints import load_checkpoint
from fewshot.config.training import TrainingConfig, rate_factor
from fewshot.devices import Processes
from fewshot.networks import NETWORKS
from fewshot.training import engine
from fewshot.training.engine import fit
from tests.fewshot.conftest import Trained
from tests.fewshot.small_networks import CPU, assert_same_weights, training, weights

every_network = pytest.mark.parametrize("name", list(NETWORKS))


class InterruptedTrainingError(Exception):
    """Stands for whatever kills a training."""


class Line(nn.Module):
    """A straight line with squared loss: what the loop does to it can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([2.0]))

    def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.slope * x - y).square().mean()}


class Points(Dataset[dict[str, Tensor]]):
    """Step i's batch; remembers which steps were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        self.asked.append(step)
        return {"x": torch.tensor([1.0 + step]), "y": torch.tensor([0.5 * step])}


def line_config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"steps": 4, "learning_rate": 0.1, "weight_decay": 0, "warmup_steps": 0, **changes})


def fit_line(state: Path, config: TrainingConfig, **options: object) -> tuple[Line, Points]:
    line, points = Line(), Points()
    fit(line, points, config, **{"seed": 0, "device": CPU, "state": state, "facts": {}, **options})  # type: ignore[arg-type]
    return line, points


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


# What a step does


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_a_step_is_the_optimizer_s_at_the_scheduled_rate(
    name: str, kind: Callable[..., torch.optim.Optimizer], state: Path
) -> None:
    """Adam adds the weights to the gradient, AdamW takes from the weights: they part at once."""
    config = line_config(steps=3, warmup_steps=2, weight_decay=0.3, optimizer=name)
    line, points = fit_line(state, config)
    expected = Line()
    optimizer = kind(expected.parameters(), weight_decay=0.3)
    for step, rate in enumerate((0.05, 0.1, 0.1)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        expected.loss(**points[step])["loss"].backward()
        optimizer.step()
    assert torch.equal(line.slope, expected.slope)


def test_the_rate_falls_from_the_highest_to_the_final_one() -> None:
    config = line_config(steps=1000, warmup_steps=100, learning_rate=0.1, final_rate=0.02)
    rates = [0.1 * rate_factor(step, config) for step in range(1000)]
    assert rates[:100] == pytest.approx([0.001 * (step + 1) for step in range(100)])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[100] == pytest.approx(0.1)
    assert rates[550] == pytest.approx(0.06)  # halfway
    assert rates[-1] == pytest.approx(0.02, rel=1e-4)
    assert min(rates[100:]) >= 0.02


def test_a_final_rate_as_high_as_the_highest_is_a_constant_rate() -> None:
    config = line_config(steps=20, final_rate=0.1)
    assert {rate_factor(step, config) for step in range(20)} == {1.0}


def test_steps_take_their_batches_in_order_and_tell_their_losses(state: Path) -> None:
    told: list[tuple[int, float]] = []

    def on_step(done: int, losses: Mapping[str, float]) -> None:
        told.append((done, losses["loss"]))

    _, points = fit_line(state, line_config(), on_step=on_step)
    assert points.asked == [0, 1, 2, 3]
    assert [done for done, _ in told] == [1, 2, 3, 4]
    assert told[0][1] == 4.0  # (2 * 1 - 0) squared
    assert all(isinstance(loss, float) for _, loss in told)


def test_frozen_weights_stay(state: Path) -> None:
    line = Line()
    line.fixed = nn.Parameter(torch.tensor([3.0]), requires_grad=False)
    fit(line, Points(), line_config(weight_decay=0.5), seed=0, device=CPU, state=state, facts={})
    assert line.fixed.item() == 3
    assert line.slope.item() != 2


def test_the_network_ends_in_evaluation_mode(state: Path) -> None:
    line, _ = fit_line(state, line_config())
    assert not line.training


def test_global_random_numbers_are_left_alone(state: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_line(state, line_config())
    assert torch.equal(torch.rand(3), expected)


def test_randomness_within_a_step_depends_on_seed_and_step_alone(state: Path) -> None:
    class Noisy(Line):
        def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            drawn.append(float(torch.rand(1)))
            return super().loss(x, y)

    draws = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        drawn: list[float] = []
        torch.manual_seed(global_seed)
        fit(Noisy(), Points(), line_config(), seed=seed, device=CPU, state=state, facts={})
        draws.append(drawn)
    assert draws[0] == draws[1]
    assert len(set(draws[0] + draws[2])) == 8


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_gradient_of_all_weights_together_is_clipped(precision: str, state: Path) -> None:
    class Plane(Line):
        def __init__(self) -> None:
            super().__init__()
            self.offset = nn.Parameter(torch.tensor([1.0]))

        def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.slope * x + self.offset - y).square().mean()}

    plane = Plane()
    config = line_config(steps=2, clip_norm=3.0, precision=precision)
    fit(plane, Points(), config, seed=0, device=CPU, state=state, facts={})
    slope, offset = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 1.0))
    optimizer = torch.optim.AdamW([slope, offset], weight_decay=0)
    for x, y, rate in ((1.0, 0.0, 0.1), (2.0, 0.5, 0.05)):
        residual = 2 * (slope * x + offset - y)  # the gradient is (residual * x, residual), its norm above 3
        norm = (residual.square() * (x**2 + 1)).sqrt()
        slope.grad, offset.grad = 3 * residual * x / norm, 3 * residual / norm
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    assert plane.slope.grad is not None
    assert plane.slope.grad.item() == pytest.approx(slope.grad.item(), rel=1e-5)
    assert plane.slope.item() == pytest.approx(slope.item(), rel=1e-6)
    assert plane.offset.item() == pytest.approx(offset.item(), rel=1e-6)


def test_a_gradient_below_the_bound_is_left_alone(state: Path) -> None:
    free, _ = fit_line(state, line_config())
    bounded, _ = fit_line(state, line_config(clip_norm=1e6))
    assert torch.equal(bounded.slope, free.slope)


def test_the_average_of_the_weights_is_what_is_left(state: Path) -> None:
    line, slopes = slopes_of(line_config(steps=30, average_decay=0.6), state)
    average = slopes[0]
    for n, slope in enumerate(slopes[1:], start=1):
        decay = min(0.6, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * slope
    assert line.slope.item() == pytest.approx(average, rel=1e-5)
    assert line.slope.item() != pytest.approx(slopes[-1], rel=1e-3)
    assert slopes == slopes_of(line_config(steps=30), state)[1]  # the training itself knows nothing of it


def slopes_of(config: TrainingConfig, state: Path) -> tuple[Line, list[float]]:
    """A trained line, and its slope after each step."""
    line, slopes = Line(), list[float]()

    def on_step(done: int, losses: Mapping[str, float]) -> None:
        slopes.append(line.slope.item())

    fit(line, Points(), config, seed=0, device=CPU, state=state, facts={}, on_step=on_step)
    return line, slopes


def test_memory_order_changes_nothing_but_rounding(linear_phantoms: Collection, state: Path) -> None:
    plain = training("unet", linear_phantoms, steps=1).run(state)
    ordered = training("unet", linear_phantoms, steps=1, channels_last=True).run(state)
    for name, parameter in ordered.named_parameters():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad, rtol=0.02, atol=1e-4, msg=name)
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


def test_weights_of_any_dimension_survive_channels_last(state: Path) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 3), nn.Conv1d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Conv3d(2, 3, 3)])

        def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"loss": (torch.stack([weight.sum() for weight in self.parameters()]).sum() * x - y).square().mean()}

    before = weights(network := Mixed())
    fit(network, Points(), line_config(channels_last=True), seed=0, device=CPU, state=state, facts={})
    assert all(not torch.equal(tensor, before[name]) for name, tensor in weights(network).items())


# The schedule


def test_warm_up_is_linear_and_the_decay_a_cosine() -> None:
    config = TrainingConfig(steps=110, warmup_steps=10)
    factors = [rate_factor(step, config) for step in range(110)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert factors[10 + 25] == pytest.approx((1 + 0.5**0.5) / 2)
    assert factors[10 + 50] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 20), (5, 0), (5, 5), (5, 100)])
def test_short_trainings_have_a_rate(steps: int, warmup: int) -> None:
    config = TrainingConfig(steps=steps, warmup_steps=warmup)
    factors = [rate_factor(step, config) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


# Saving and resuming


def test_the_state_is_saved_as_often_as_asked_but_not_at_the_end(state: Path) -> None:
    saved: list[tuple[int, int]] = []

    def on_step(done: int, losses: Mapping[str, float]) -> None:
        if state.is_file():
            saved.append((done, load_checkpoint(state).facts["steps_done"]))

    fit_line(state, line_config(steps=6, save_every=2), facts={"name": "line"}, on_step=on_step)
    assert saved == [(3, 2), (4, 2), (5, 4), (6, 4)]
    assert load_checkpoint(state).facts == {"name": "line", "steps_done": 4, "scaler": {}}


def test_a_resumed_training_asks_for_the_remaining_batches_alone(state: Path) -> None:
    fit_line(state, line_config(steps=6, save_every=4))
    _, points = fit_line(state, line_config(steps=6, save_every=4))
    assert points.asked == [4, 5]


@every_network
@pytest.mark.parametrize(
    "options",
    [{}, {"precision": "bfloat16"}, {"precision": "bfloat16", "channels_last": True, "average_decay": 0.9}],
    ids=["float32", "bfloat16", "averaged"],
)
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    name: str, options: dict[str, object], linear_phantoms: Collection, state: Path
) -> None:
    def interrupt(done: int, losses: Mapping[str, float]) -> None:
        if done == 5:
            raise InterruptedTrainingError

    undisturbed = training(name, linear_phantoms, **options).run(state.with_name("other"))
    with pytest.raises(InterruptedTrainingError):
        training(name, linear_phantoms, **options).run(state, on_step=interrupt)
    assert load_checkpoint(state).facts["steps_done"] == 4
    resumed = training(name, linear_phantoms, **options).run(state)
    assert_same_weights(weights(resumed), weights(undisturbed))


# Losses that are none


class Failing(Line):
    """Its loss is not finite where x is 3, at step 3."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        losses = super().loss(x, y)
        return {"loss": losses["loss"] * self.value} if x == 3 else losses


@pytest.mark.parametrize(("value", "told"), [(math.nan, "nan"), (math.inf, "inf")])
def test_a_loss_that_is_not_finite_ends_the_training_at_once(value: float, told: str, state: Path) -> None:
    for expected in ([1, 2], []):  # the second training goes on from the state of the first, and ends as it did
        network, steps = Failing(value), list[int]()

        def on_step(done: int, losses: Mapping[str, float], steps: list[int] = steps) -> None:
            steps.append(done)

        config = line_config(steps=6, save_every=2)
        with pytest.raises(UserError, match=rf"the loss of step 3 is {told}.*lower learning_rate.*precision float32"):
            fit(network, Points(), config, seed=0, device=CPU, state=state, facts={}, on_step=on_step)
        assert steps == expected
        assert load_checkpoint(state).facts["steps_done"] == 2
        assert torch.isfinite(network.slope).all()


# Learning


@every_network
def test_the_loss_falls_on_phantoms(name: str, trained: Callable[[str], Trained]) -> None:
    losses = trained(name).losses
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


class SlowPoints(Points):
    """Points whose reading takes as long as the clock says."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        self.clock[0] += self.seconds
        return super().__getitem__(step)


def test_the_share_of_reading_is_told(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(engine, "perf_counter", lambda: clock[0])

    def compute(done: int, values: Mapping[str, float]) -> None:
        clock[0] += 3.0

    with caplog.at_level(logging.INFO):
        points = SlowPoints(clock, 1.0)
        fit(Line(), points, line_config(), seed=0, device=CPU, state=state, facts={}, on_step=compute)
    assert "train: reading and augmenting took 25 % of the time" in caplog.text


# Workers and processes


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on a machine of one core
@every_network
def test_workers_change_nothing(name: str, linear_phantoms: Collection, state: Path) -> None:
    alone = training(name, linear_phantoms, workers=0).run(state.with_name("alone"))
    helped = training(name, linear_phantoms, workers=2).run(state)
    assert_same_weights(weights(helped), weights(alone))


def train_in_process(rank: int, name: str, sources: Collection, folder: Path, steps: int) -> None:
    """One of two processes: trains, then writes its last gradients and its weights."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    case = training(name, sources, steps=steps, warmup_steps=0)
    network = case.run(folder / "state", processes=Processes(rank, 2))
    torch.save({key: weight.grad for key, weight in network.named_parameters()}, folder / f"gradients{rank}.pt")
    torch.save(dict(network.named_parameters()), folder / f"weights{rank}.pt")
    torch.distributed.destroy_process_group()


def in_two_processes(name: str, sources: Collection, folder: Path, steps: int) -> None:
    torch.multiprocessing.spawn(train_in_process, (name, sources, folder, steps), nprocs=2)


@pytest.mark.slow
@every_network
def test_two_processes_average_their_gradients(name: str, linear_phantoms: Collection, tmp_path: Path) -> None:
    in_two_processes(name, linear_phantoms, tmp_path, steps=1)
    expected: dict[str, Tensor] = {}
    for step in (0, 1):
        case = training(name, linear_phantoms)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # dropout at the first step, in every process
            losses = case.network.train().loss(**case.batches[step])
        losses["loss"].backward()
        for key, weight in case.network.named_parameters():
            assert weight.grad is not None
            expected[key] = expected.get(key, torch.zeros(())) + weight.grad / 2
    for rank in (0, 1):
        found = torch.load(tmp_path / f"gradients{rank}.pt")
        assert found.keys() == expected.keys()
        for key, gradient in expected.items():
            scale = max(float(gradient.abs().max()), 1e-3)
            torch.testing.assert_close(found[key], gradient, rtol=0, atol=1e-5 * scale, msg=key)


@pytest.mark.slow
def test_two_processes_keep_equal_weights(linear_phantoms: Collection, tmp_path: Path) -> None:
    in_two_processes("unet", linear_phantoms, tmp_path, steps=3)
    first, second = (torch.load(tmp_path / f"weights{rank}.pt") for rank in (0, 1))
    assert_same_weights(first, second)
