"""A training whose memory runs out: the same gradients in parts, also after a resume and in several processes."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from episodes.errors import UserError
from episodes.storage.store import Collection
from fewshot.checkpoints import load_checkpoint
from fewshot.config.training import TrainingConfig, ValidationConfig
from fewshot.devices import Processes
from fewshot.networks import seeded_network
from fewshot.training.batches import HeldOut, training_batches
from fewshot.training.engine import fit
from tests.fewshot.scarce_memory import Scarce, limited
from tests.fewshot.small_networks import (
    CPU,
    MODELS,
    Training,
    assert_same_weights,
    plain_encoder,
    train_config,
    training,
    weights,
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.safetensors"


def scarce_training(name: str, sources: Collection, room: int, **changes: Any) -> tuple[Training, Scarce]:
    """A training on batches of 4, in memory for so many at once."""
    case, scarce = training(name, sources, **{"batch_size": 4, **changes}), Scarce(room)
    limited(case.network, scarce)
    return case, scarce


def losses_of(case: Training, state: Path, **options: Any) -> list[Mapping[str, float]]:
    """The losses of every step, once trained."""
    told: list[Mapping[str, float]] = []
    case.run(state, on_step=lambda _, losses: told.append(losses), **options)
    return told


# One step


def itemwise(name: str, sources: Collection) -> Training:
    """A step on four images or episodes, of a network that computes each by itself, as it has no batch norm."""
    config = train_config(name, batch_size=4, steps=1)
    model = MODELS[name].model_copy(update={"output_stride": 32})
    network = seeded_network(plain_encoder("group"), model, seed=0)
    return Training(network, training_batches(network, sources, config), config.train)


@pytest.mark.parametrize(("name", "room"), [("panet", 1), ("unet", 3), ("maml", 1)])
def test_gradients_and_losses_in_parts_are_the_whole_batch_s(
    name: str, room: int, linear_phantoms: Collection, state: Path
) -> None:
    whole, parted, scarce = itemwise(name, linear_phantoms), itemwise(name, linear_phantoms), Scarce(room)
    limited(parted.network, scarce)
    (expected,), (found,) = (losses_of(case, state) for case in (whole, parted))
    assert scarce.tried == {3: [4, 2, 2], 1: [4, 2, 1, 1, 1, 1]}[room]
    assert found.keys() == expected.keys()
    for key in found.keys() & {"loss", "segmentation", "alignment", "support"}:  # no ratios, and no counts
        assert found[key] == pytest.approx(expected[key], rel=1e-5)
    assert_close_gradients(gradients(parted.network), gradients(whole.network))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def assert_close_gradients(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1e-3)
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-3 * scale, msg=name)


class Plane(nn.Module):
    """A plane through points with squared loss, and a batch norm that sees them and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.slope = nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))

    def loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        self.norm(x.unsqueeze(1).detach())
        return {"loss": (x @ self.slope - y).square().mean()}


class Points(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Five points a step."""

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(step)
        values = torch.randn(5, 4, generator=generator) / 10  # whose scaled gradients float16 can hold
        return {"x": values[:, :3], "y": values[:, 3]}


def plane_config(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"steps": 3, "learning_rate": 0.1, "weight_decay": 0, "warmup_steps": 0, **changes})


def fit_plane(state: Path, network: nn.Module, **options: Any) -> nn.Module:
    config = options.pop("config", plane_config())
    fit(network, Points(), config, **{"seed": 0, "device": CPU, "state": state, "facts": {}, **options})
    return network


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_parts_count_by_their_items(clip_norm: float | None, precision: str, state: Path) -> None:
    """Of five items, three and two: a plain mean of the two losses would be another loss."""
    config = plane_config(clip_norm=clip_norm, precision=precision)
    whole = fit_plane(state, Plane(), config=config)
    scarce = Scarce(3)
    parted = fit_plane(state, limited(Plane(), scarce), config=config)
    assert scarce.tried == [5, 3, 2, 3, 2, 3, 2]
    torch.testing.assert_close(parted.slope, whole.slope, rtol=2e-2 if precision == "float16" else 1e-4, atol=0)


def test_a_failed_attempt_leaves_running_statistics_as_they_were(state: Path) -> None:
    norms = []
    for network in (limited(Plane(), Scarce(3)), Plane()):
        fit_plane(state, network, config=plane_config(steps=1))
        norms.append(network.norm)
    expected = nn.BatchNorm1d(1)
    for part in Points()[0]["x"].split([3, 2]):
        expected(part.unsqueeze(1))
    torch.testing.assert_close(norms[0].state_dict(), expected.state_dict())
    assert norms[1].num_batches_tracked == 1


def test_the_message_says_once_what_happens(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit_plane(state, limited(Plane(), Scarce(3)))
    assert caplog.messages == ["training: out of memory at step 1; batches of 5 are computed in 2 parts from here on"]


def test_no_room_for_a_single_item_ends_the_training(state: Path) -> None:
    scarce = Scarce(5)
    network = limited(Plane(), scarce)

    def fill_memory(done: int, losses: Mapping[str, float]) -> None:
        scarce.room = 0 if done == 2 else 5

    with pytest.raises(UserError, match=r"^training: out of memory at step 3 with one item of the batch at a time"):
        fit_plane(state, network, config=plane_config(steps=6, save_every=2), on_step=fill_memory)
    assert scarce.tried == [5, 5, 5, 3, 2, 1]  # two steps, then all that was tried of the third
    assert load_checkpoint(state).facts["steps_done"] == 2


# From step to step


def test_a_resumed_training_goes_on_in_as_many_parts(linear_phantoms: Collection, state: Path) -> None:
    """Bit for bit, though the resumed one has room for whole batches."""

    class InterruptedTrainingError(Exception):
        pass

    def interrupt(done: int, losses: Mapping[str, float]) -> None:
        if done == 5:
            raise InterruptedTrainingError

    undisturbed, _ = scarce_training("multitask-unet", linear_phantoms, 2)
    undisturbed.run(state.with_name("other"))
    interrupted, _ = scarce_training("multitask-unet", linear_phantoms, 2)
    with pytest.raises(InterruptedTrainingError):
        interrupted.run(state, on_step=interrupt)
    assert load_checkpoint(state).facts["parts"] == {"training": 2, "validation": 1}
    resumed, scarce = scarce_training("multitask-unet", linear_phantoms, 4)
    resumed.run(state)
    assert scarce.tried == [2, 2, 2, 2]
    assert_same_weights(weights(resumed.network), weights(undisturbed.network))


def test_a_state_says_nothing_of_parts_where_there_are_none(linear_phantoms: Collection, state: Path) -> None:
    case, _ = scarce_training("unet", linear_phantoms, 4, steps=3)
    case.run(state)
    assert "parts" not in load_checkpoint(state).facts


# Validation


def test_a_validation_that_does_not_fit_is_computed_in_parts(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = plane_config(validation=ValidationConfig(every=1, share=0.2, patience=None))
    told: dict[int, list[float]] = {}
    for room in (5, 2):
        network, modes = Plane(), list[bool]()
        scarce = Scarce(5)
        limited(network, scarce)

        def on_step(done: int, losses: Mapping[str, float], room: int = room) -> None:
            told.setdefault(room, []).append(losses["validation"])

        def before_validation(module: nn.Module, _: Any, scarce: Scarce = scarce, room: int = room) -> None:
            scarce.room = 5 if module.training else room

        network.norm.register_forward_pre_hook(before_validation)
        network.norm.register_forward_pre_hook(lambda module, _, modes=modes: modes.append(module.training))
        fit_plane(state, network, config=config, held_out=HeldOut(Points(), 10, 5), on_step=on_step)
        assert modes.count(True) == 3  # one batch a step: only what is validated is in parts
    assert told[2] == pytest.approx(told[5], rel=1e-5)
    assert [message.split(";")[0] for message in caplog.messages] == ["validation: out of memory at step 1"] * 2


# Several processes


def train_in_process(rank: int, sources: Collection, folder: Path) -> None:
    """One of two processes, the second of which has room for two images alone."""
    for package in ("torch", "fewshot"):
        logging.getLogger(package).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    case, scarce = itemwise("unet", sources), Scarce((4, 2)[rank])
    limited(case.network, scarce)
    case.run(folder / "state", processes=Processes(rank, 2))
    torch.save((gradients(case.network), scarce.tried), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_where_one_process_runs_out_of_memory_all_divide_their_batches(
    linear_phantoms: Collection, tmp_path: Path
) -> None:
    torch.multiprocessing.spawn(train_in_process, (linear_phantoms, tmp_path), nprocs=2)
    (first, tried_first), (second, tried_second) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert tried_first == tried_second == [4, 2, 2]
    assert_same_weights(first, second)
    case = itemwise("unet", linear_phantoms)
    case.network.train()
    for batch in (case.batches[0], case.batches[1]):  # of the first and of the second process
        (case.network.loss(**batch)["loss"] / 2).backward()
    assert_close_gradients(first, gradients(case.network))
