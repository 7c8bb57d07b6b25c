"""What a training carries from step to step comes back from its file as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewshot.checkpoints import CheckpointError
from fewshot.config.training import TrainingConfig
from fewshot.training.learner import Learner, fill_learner, save_learner
from tests.fewshot.small_networks import CPU, assert_same_weights

CONFIG = TrainingConfig(steps=5, average_decay=0.9, precision="float16")


def learner(channels: int = 4) -> Learner:
    """Of a convolution whose weights lie channels last."""
    network = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels)).to(memory_format=torch.channels_last)
    return Learner.of(network, CONFIG, CPU)


def step(of: Learner) -> None:
    """Change all that can change."""
    of.optimizer.zero_grad()
    of.scaler.scale(of.network(torch.rand(2, 3, 8, 8)).square().sum()).backward()
    of.scaler.step(of.optimizer)
    of.scaler.update()
    assert of.average is not None
    of.average.update_parameters(of.network)


def moments(of: Learner) -> dict[str, Tensor]:
    """The optimiser's tensors."""
    entries = (of.optimizer.state[parameter] for parameter in of.trainable)
    return {f"{index}.{name}": value for index, entry in enumerate(entries) for name, value in entry.items()}


def test_a_learner_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path, first, second = tmp_path / "state", learner(), learner()
    for _ in range(3):
        step(first)
    first.best.offer(2, 0.25, first.result)
    first.best.offer(3, 0.5, first.result)
    save_learner(path, first, 3, {"name": "mine"})
    assert fill_learner(second, path) == 3
    assert_same_weights(second.network.state_dict(), first.network.state_dict())
    assert first.average is not None
    assert second.average is not None
    assert_same_weights(second.average.state_dict(), first.average.state_dict())
    assert_same_weights(moments(second), moments(first))
    assert second.scaler.state_dict() == first.scaler.state_dict()
    assert (second.best.step, second.best.loss, second.best.waited) == (2, 0.25, 1)
    assert_same_weights(second.best.tensors, first.best.tensors)


def test_tensors_lie_in_memory_as_they_did(tmp_path: Path) -> None:
    first, second = learner(), learner()
    step(first)
    save_learner(tmp_path / "state", first, 1, {})
    fill_learner(second, tmp_path / "state")
    before = moments(first) | dict(first.network.named_parameters())
    after = moments(second) | dict(second.network.named_parameters())
    assert {name: tensor.stride() for name, tensor in after.items()} == {
        name: tensor.stride() for name, tensor in before.items()
    }


def test_without_a_file_a_training_begins(tmp_path: Path) -> None:
    assert fill_learner(learner(), tmp_path / "none") == 0


def test_another_network_s_state_is_refused(tmp_path: Path) -> None:
    save_learner(tmp_path / "state", learner(), 1, {})
    with pytest.raises(CheckpointError, match="does not fit its network"):
        fill_learner(learner(channels=5), tmp_path / "state")
