"""Validation: who is held out, what the loss on them is, when training stops and whose weights are left."""

import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.utils.data import Dataset

from episodes.errors import SamplingError, UserError
from episodes.storage.store import Collection
from fewshot.checkpoints import load_checkpoint
from fewshot.config.training import TrainingConfig, ValidationConfig
from fewshot.devices import ALONE, Processes
from fewshot.networks import NETWORKS
from fewshot.training.batches import HeldOut, divided_batches
from fewshot.training.engine import fit, validation_means
from fewshot.training.learner import Best
from fewshot.training.partition import divide
from fewshot.training.precision import autocast
from tests.fewshot.small_networks import CPU, assert_same_weights, small_network, train_config, weights

every_network = pytest.mark.parametrize("name", list(NETWORKS))
PLAIN = autocast("float32", CPU)


class InterruptedTrainingError(Exception):
    """Stands for whatever kills a training."""


class Walk(nn.Module):
    """Training moves it down a line from 1; its validation loss is the distance to targets on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([1.0]))

    def loss(self, target: Tensor) -> dict[str, Tensor]:
        return {"loss": self.place.sum() if self.training else (self.place - target).abs().mean()}


class Targets(Dataset[dict[str, Tensor]]):
    """Batches of two equal targets."""

    def __init__(self, target: float) -> None:
        self.target = target

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"target": torch.full((2,), self.target)}


def walk_config(steps: int = 20, every: int = 2, patience: int | None = None, **changes: object) -> TrainingConfig:
    validation = ValidationConfig(every=every, patience=patience)
    fixed = {"steps": steps, "learning_rate": 0.1, "weight_decay": 0, "warmup_steps": 0, "validation": validation}
    return TrainingConfig.model_validate({**fixed, **changes})


class Trip:
    """A whole training of a walk, and what was told of it."""

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        target: float = 0.0,
        processes: Processes = ALONE,
        killed_after: int | None = None,
    ) -> None:
        self.walk = Walk()
        self.places: list[float] = []
        self.told: dict[int, float] = {}
        self.killed_after = killed_after
        self.kept = fit(
            self.walk,
            Targets(target),
            config,
            seed=0,
            device=CPU,
            state=folder / "state.safetensors",
            facts={},
            processes=processes,
            held_out=HeldOut(Targets(target), 3, 2) if config.validation else None,
            on_step=self.on_step,
        )

    def on_step(self, done: int, losses: Mapping[str, float]) -> None:
        self.places.append(self.walk.place.item())
        if "validation" in losses:
            self.told[done] = losses["validation"]
        if done == self.killed_after:
            raise InterruptedTrainingError


# What is validated on


@every_network
def test_networks_train_and_are_validated_on_different_patients(name: str, linear_phantoms: Collection) -> None:
    patients = {linear_phantoms.image(r.id).tobytes(): r.patient_id for r in linear_phantoms.records}
    config = train_config(name, validation={"share": 0.4, "episodes": 5}, augmentation="none")
    batches, held_out = divided_batches(small_network(name), divide(linear_phantoms, config), config)
    assert held_out is not None
    trained = {patients[picture(image)] for step in range(12) for image in images(batches[step])}
    validated = {patients[picture(image)] for batch in held_out for image in images(batch)}
    assert trained
    assert validated
    assert not trained & validated


@every_network
def test_held_out_images_are_shown_as_they_were_recorded(name: str, linear_phantoms: Collection) -> None:
    recorded = {linear_phantoms.image(record.id).tobytes() for record in linear_phantoms.records}
    config = train_config(name, validation={"share": 0.4, "episodes": 5}, augmentation="strong", scanner="random")
    batches, held_out = divided_batches(small_network(name), divide(linear_phantoms, config), config)
    assert held_out is not None
    assert not {picture(image) for image in images(batches[0])} & recorded
    assert {picture(image) for batch in held_out for image in images(batch)} <= recorded


def images(batch: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The grey images of a batch, (H, W)."""
    for key, tensor in batch.items():
        if key.endswith("images"):
            yield from tensor.flatten(0, -4)[:, 0]


def picture(image: Tensor) -> bytes:
    return (image * 255).round().to(torch.uint8).numpy().tobytes()


def test_supervised_networks_are_validated_on_every_held_out_image_once(linear_phantoms: Collection) -> None:
    config = train_config("unet", validation={"share": 0.4}, batch_size=5)
    _, held_out = divided_batches(small_network("unet"), divide(linear_phantoms, config), config)
    assert held_out is not None
    held = divide(linear_phantoms, config).validation
    assert held is not None
    found = [picture(image) for batch in held_out for image in images(batch)]
    assert sorted(found) == sorted(held.image(record.id).tobytes() for record in held.records)


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_too_few_patients_are_counted_before_training(share: float, linear_phantoms: Collection) -> None:
    config = train_config("panet", validation={"share": share}, episodes={"n_shot": 2, "n_query": 2})
    with pytest.raises(
        SamplingError, match=rf"train\.validation: with a share of {share} held out, .*needed.*change the share"
    ):
        divided_batches(small_network("panet"), divide(linear_phantoms, config), config)


# What the loss is


def test_the_loss_is_the_mean_over_a_fixed_number() -> None:
    class Half(Dataset[dict[str, Tensor]]):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return {"target": torch.tensor([10.0, 20.0]) * (index + 1)}

    # 10 and 20, then 20 alone: of the last batch no more is taken than is left.
    assert validation_means(Walk(), HeldOut(Half(), 3, 2), CPU, PLAIN)["loss"] == pytest.approx((9 + 19 + 19) / 3)


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_every_network_can_be_validated_and_is_left_as_it_was(
    name: str, training: bool, linear_phantoms: Collection
) -> None:
    network = small_network(name).train(training)
    config = train_config(name, validation={"share": 0.4, "episodes": 3})
    _, held_out = divided_batches(network, divide(linear_phantoms, config), config)
    assert held_out is not None
    before = weights(network)
    torch.manual_seed(3)
    losses = [validation_means(network, held_out, CPU, PLAIN) for _ in range(2)]
    drawn = torch.rand(1)
    assert losses[0] == losses[1]
    assert losses[0]["loss"] > 0
    assert network.training == training
    assert_same_weights(weights(network), before)
    assert all(weight.grad is None for weight in network.parameters())
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)


# When training stops, and whose weights are left


def test_of_equally_good_weights_the_earlier_stay() -> None:
    best, walk = Best(), Walk()
    for step, loss in ((5, 2.0), (10, 1.0), (15, 1.0), (20, 1.5)):
        best.offer(step, loss, walk)
        nn.init.constant_(walk.place, step)
    assert (best.step, best.loss, best.waited) == (10, 1.0, 2)
    assert best.tensors["place"].item() == 5


def test_a_training_is_validated_at_intervals_and_at_its_end(tmp_path: Path) -> None:
    trip = Trip(tmp_path, walk_config(steps=8, every=3), target=0.5)
    assert list(trip.told) == [3, 6, 8]
    assert list(trip.told.values()) == pytest.approx([abs(trip.places[step - 1] - 0.5) for step in trip.told])


def test_the_best_weights_are_left(tmp_path: Path) -> None:
    trip = Trip(tmp_path, walk_config(), target=0.5)
    assert len(trip.places) == 20
    best = min(range(2, 21, 2), key=lambda step: abs(trip.places[step - 1] - 0.5))
    assert 2 < best < 18  # the walk passed the target on its way
    assert trip.kept == best
    assert trip.walk.place.item() == trip.places[best - 1]
    assert not trip.walk.training


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_training_stops_when_patience_ends(patience: int, tmp_path: Path) -> None:
    trip = Trip(tmp_path, walk_config(patience=patience), target=0.5)
    whole = Trip(tmp_path / "whole", walk_config(), target=0.5)
    assert trip.kept == whole.kept
    assert len(trip.places) == whole.kept + 2 * patience
    assert trip.places == whole.places[: len(trip.places)]
    assert trip.walk.place.item() == whole.places[whole.kept - 1]


def test_without_validation_the_last_weights_are_left(tmp_path: Path) -> None:
    trip = Trip(tmp_path, walk_config(validation=None))
    assert (trip.kept, trip.told) == (20, {})
    assert trip.walk.place.item() == trip.places[-1]


def test_an_average_is_what_is_validated_and_left(tmp_path: Path) -> None:
    trip = Trip(tmp_path, walk_config(average_decay=0.7), target=0.5)
    average, averages = trip.places[0], [trip.places[0]]
    for n, place in enumerate(trip.places[1:], start=1):
        decay = min(0.7, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * place
        averages.append(average)
    assert trip.told == pytest.approx({step: abs(averages[step - 1] - 0.5) for step in trip.told}, abs=1e-6)
    best = min(trip.told, key=lambda step: abs(averages[step - 1] - 0.5))
    assert trip.kept == best
    assert trip.walk.place.item() == pytest.approx(averages[best - 1], abs=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"average_decay": 0.7}, {"patience": 2}, {"patience": 2, "average_decay": 0.7}]
)
def test_wherever_a_training_is_killed_it_ends_the_same(options: dict[str, object], tmp_path: Path) -> None:
    config = walk_config(steps=12, save_every=3, **options)  # type: ignore[arg-type]
    whole = Trip(tmp_path, config, target=0.8)
    for last in range(1, len(whole.places) + 1):
        folder = tmp_path / str(last)
        with pytest.raises(InterruptedTrainingError):
            Trip(folder, config, target=0.8, killed_after=last)
        resumed = Trip(folder, config, target=0.8)
        assert resumed.kept == whole.kept
        assert torch.equal(resumed.walk.place, whole.walk.place)
        assert resumed.places == whole.places[(last - 1) // 3 * 3 :]
        assert resumed.told.items() <= whole.told.items()


def test_a_validation_loss_that_is_none_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the validation loss after step 2 is nan: training stopped"):
        Trip(tmp_path, walk_config(), target=math.nan)


def test_validation_needs_something_to_validate_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both or neither"):
        fit(Walk(), Targets(0), walk_config(), seed=0, device=CPU, state=tmp_path / "state", facts={})


# Several processes


def walk_in_process(rank: int, folder: Path, config: TrainingConfig) -> None:
    """One of two processes: where the walk was after each step, and what is left."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    trip = Trip(folder, config, target=0.5, processes=Processes(rank, 2))
    torch.save({"kept": trip.kept, "place": trip.walk.place, "told": trip.told}, folder / f"trip{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_stop_together_with_the_best_weights(tmp_path: Path) -> None:
    config = walk_config(patience=2, save_every=3)
    alone = Trip(tmp_path / "alone", config, target=0.5)
    torch.multiprocessing.spawn(walk_in_process, (tmp_path, config), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"trip{rank}.pt")
        assert found["kept"] == alone.kept
        assert torch.equal(found["place"], alone.walk.place)
        assert found["told"] == ({} if rank else alone.told)


class Unlucky(Walk):
    """Its loss is no number where its batch is none."""

    def loss(self, target: Tensor) -> dict[str, Tensor]:
        return {"loss": self.place.sum() * target.mean()}


class OneBad(Dataset[dict[str, Tensor]]):
    """Of two processes' batches of the second step, the second process's is bad."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"target": torch.tensor([math.nan if index == 3 else 1.0])}


def fail_in_process(rank: int, folder: Path) -> None:
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    config = walk_config(steps=4, save_every=1, validation=None)
    state = folder / "state.safetensors"
    with pytest.raises(UserError, match="the loss of step 2 "):
        fit(Unlucky(), OneBad(), config, seed=0, device=CPU, state=state, facts={}, processes=Processes(rank, 2))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_loss_that_is_none_in_one_process_ends_all(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(fail_in_process, (tmp_path,), nprocs=2)
    state = load_checkpoint(tmp_path / "state.safetensors")
    assert state.facts["steps_done"] == 1
    assert torch.isfinite(state.tensors["network.place"]).all()
