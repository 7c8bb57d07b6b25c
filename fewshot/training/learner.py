"""The state of a training: network, optimiser, averages, best weights; how it is saved and restored."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from episodes.errors import in_short
from fewshot.checkpoints import (
    Checkpoint,
    CheckpointError,
    fill_network,
    fill_optimizer,
    load_checkpoint,
    network_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from fewshot.config.training import TrainingConfig
from fewshot.devices import ALONE, NotEnoughMemoryError, Processes, is_first_process
from fewshot.training.precision import autocast

logger = logging.getLogger(__name__)


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Copy a network; the copy's weights follow the network's with every `update_parameters(network)`.

    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, in the exponential form, with a
    decay above 0 and below 1. The n-th update takes (1 + n) / (10 + n) where that is less, so that a short training's
    average is not that of its beginning. Statistics of batch norm are averaged like weights, because they belong to
    these; integers are copied.

    >>> line = nn.Linear(1, 1, bias=False)
    >>> average = averaged(line, 0.9)
    >>> for weight in (1.0, 2.0):
    ...     _ = nn.init.constant_(line.weight, weight)
    ...     average.update_parameters(line)
    >>> round(average.module.weight.item(), 4)  # the second decay is 2 / 11
    1.8182
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], n_averaged: Tensor | int) -> None:
        # torch calls it once for each type of number.
        if averages[0].is_floating_point():
            n = int(n_averaged)
            lerp = get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))  # type: ignore[no-untyped-call]
            lerp(averages, currents, n)
        else:
            torch._foreach_copy_(list(averages), list(currents))

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True).eval()


@dataclass(slots=True)
class Best:
    """The weights with the lowest validation loss so far, of which step; `waited` counts the validations since then."""

    step: int = 0
    loss: float = float("inf")
    waited: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, step: int, loss: float, network: nn.Module) -> None:
        """Take these weights if their loss is lower; of equal ones the earlier stay."""
        if self.step and loss >= self.loss:
            self.waited += 1
            return
        self.step, self.loss, self.waited = step, loss, 0
        self.tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}


@dataclass(slots=True)
class Parts:
    """The numbers of parts that batches are computed in: one, until memory does not suffice.

    A validation batch needs no gradients, and so may do with fewer.
    """

    training: int = 1
    validation: int = 1

    def double(self, kind: Literal["training", "validation"], n_items: int, step: int) -> None:
        """Compute in twice as many parts from here on; the largest of the batches that did not fit has `n_items`.

        Raises:
            NotEnoughMemoryError: if every item is a part already.
        """
        tried = getattr(self, kind)
        if tried >= n_items:
            raise NotEnoughMemoryError(
                f"{kind}: out of memory at step {step + 1} with one item of the batch at a time; the last saved state"
                " is left. Choose another device, or under another name a smaller image_size or precision bfloat16"
            )
        setattr(self, kind, min(2 * tried, n_items))
        logger.warning(
            "%s: out of memory at step %d; batches of %d are computed in %d parts from here on",
            *(kind, step + 1, n_items, getattr(self, kind)),
        )


@dataclass(frozen=True, slots=True)
class Learner:
    """A network, and all that its training needs from step to step."""

    network: nn.Module
    trainable: tuple[nn.Parameter, ...]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    device: torch.device
    autocast: torch.autocast
    processes: Processes = ALONE
    best: Best = field(default_factory=Best)
    parts: Parts = field(default_factory=Parts)

    @classmethod
    def of(
        cls, network: nn.Module, config: TrainingConfig, device: torch.device, processes: Processes = ALONE
    ) -> "Learner":
        """Begin the training of a network that is on its device."""
        trainable = tuple(parameter for parameter in network.parameters() if parameter.requires_grad)
        optimizer = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        return cls(
            network,
            trainable,
            optimizer(trainable, lr=config.learning_rate, weight_decay=config.weight_decay),
            torch.amp.GradScaler(device.type, enabled=config.precision == "float16"),
            None if config.average_decay is None else averaged(network, config.average_decay),
            device,
            autocast(config.precision, device),
            processes,
        )

    @property
    def result(self) -> nn.Module:
        """Return the network whose weights are wanted: the average, where there is one."""
        return self.network if self.average is None else self.average.module

    def finish(self) -> None:
        """Give the network the weights that were wanted: the best validated ones, or the last."""
        self.network.load_state_dict(self.best.tensors or self.result.state_dict())
        self.network.eval()


def save_learner(path: Path, learner: Learner, steps_done: int, facts: Mapping[str, Any]) -> None:
    """Write all that a training needs to go on as if it had not been interrupted."""
    tensors = network_tensors(learner.network) | optimizer_tensors(learner.optimizer)
    progress: dict[str, Any] = {"steps_done": steps_done, "scaler": learner.scaler.state_dict()}
    if learner.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in learner.average.state_dict().items()}
    if learner.best.step:
        tensors |= {f"best.{name}": tensor for name, tensor in learner.best.tensors.items()}
        progress["best"] = {"step": learner.best.step, "loss": learner.best.loss, "waited": learner.best.waited}
    if learner.parts != Parts():
        progress["parts"] = asdict(learner.parts)
    save_checkpoint(path, tensors, dict(facts) | progress)


def discard_learner(path: Path) -> None:
    """Remove the state of a training that has ended, if a killed process has not done so."""
    if is_first_process():
        path.unlink(missing_ok=True)


def fill_learner(learner: Learner, path: Path) -> int:
    """Restore what `save_learner` saved, if there is a file, and return the number of steps done.

    Raises:
        CheckpointError: if the file is damaged, or holds another network.
    """
    if not path.is_file():
        return 0
    checkpoint = load_checkpoint(path)
    fill_network(learner.network, checkpoint, str(path))
    try:
        return _fill_rest(learner, checkpoint)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: is no state of this training ({in_short(error)}); delete it to begin again"
        ) from error


def _fill_rest(learner: Learner, checkpoint: Checkpoint) -> int:
    """Restore what a learner has beside its network; return the number of steps done."""
    fill_optimizer(learner.optimizer, checkpoint)
    _lay_out_as_parameters(learner.optimizer)
    learner.scaler.load_state_dict(checkpoint.facts["scaler"])
    if learner.average is not None:
        learner.average.load_state_dict(_below("average.", checkpoint.tensors))
    if "best" in checkpoint.facts:
        best = checkpoint.facts["best"]
        learner.best.step, learner.best.loss, learner.best.waited = best["step"], best["loss"], best["waited"]
        learner.best.tensors = _below("best.", checkpoint.tensors)
    if "parts" in checkpoint.facts:
        learner.parts.training = checkpoint.facts["parts"]["training"]
        learner.parts.validation = checkpoint.facts["parts"]["validation"]
    return int(checkpoint.facts["steps_done"])


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Order the optimiser's tensors in memory as their parameters are, as they were: the same kernels then go on."""
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter).copy_(value)
