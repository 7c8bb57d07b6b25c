"""The gradients of one training step: over a whole batch, over its parts where memory asks for it, over processes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed
from torch import Tensor, nn

from fewshot.devices import NotEnoughMemoryError, within_memory
from fewshot.training.batches import Batch, batch_size, divided
from fewshot.training.learner import Learner


def fill_gradients(learner: Learner, batch: Batch, step: int, seed: int) -> dict[str, float]:
    """Compute the gradients of one step's loss, the mean over all processes.

    A batch that does not fit in memory is computed in two parts, one after the other, then in four, and so on, as all
    later ones are. Each part's loss counts by its share of the items, so that the gradients are the whole batch's, but
    for rounding, where a loss is a mean over items. It is not quite so where items of a batch meet: batch norm takes
    its statistics from each part (and updates its running ones with each), a Dice loss over all pixels of a batch and
    means over those items alone that have a label are taken within each part; and dropout draws other numbers. The
    result still depends on nothing but the seed and the numbers of parts, which the training's state holds.

    Gradients are averaged over processes when all have computed theirs, not meanwhile: where one ran out of memory
    halfway, the others would wait for it for ever. So they all know, and all divide their batches alike.

    Args:
        learner: the network, and what its training needs; its gradients are replaced.
        batch: of this process.
        step: its number, for messages.
        seed: of whatever is random within the step.

    Returns:
        The losses and scores of this process's batch; of several parts, their means over the parts that have them.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single item, in any process.
    """
    buffers = [buffer.clone() for buffer in learner.network.buffers()]
    while True:
        attempt = partial(_accumulate, learner, batch, seed)
        try:
            values = within_memory(attempt, f"{learner.device}, step {step + 1}")
        except NotEnoughMemoryError:
            values = {}
        if not in_any_process(learner, not values):
            break
        _undo(learner, buffers)
        learner.parts.double("training", batch_size(batch), step)
    if learner.processes.count > 1:
        _average_gradients(learner.trainable, learner.processes.count)
    return values


def _accumulate(learner: Learner, batch: Batch, seed: int) -> dict[str, float]:
    """Add up the gradients of a batch's parts."""
    learner.optimizer.zero_grad(set_to_none=True)
    count, means = batch_size(batch), Means()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in divided(batch, learner.parts.training):
            with learner.autocast:
                losses: dict[str, Tensor] = learner.network.loss(  # type: ignore[operator]
                    **{name: tensor.to(learner.device) for name, tensor in part.items()}
                )
            share = batch_size(part) / count
            learner.scaler.scale(losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
            means.add({name: float(value.detach()) for name, value in losses.items()}, share)
    return means.values()


def _undo(learner: Learner, buffers: Sequence[Tensor]) -> None:
    """Undo what a failed attempt has left: running statistics, and gradients."""
    learner.optimizer.zero_grad(set_to_none=True)
    for buffer, before in zip(learner.network.buffers(), buffers, strict=True):
        buffer.copy_(before)


class Means:
    """Weighted means of losses and scores over batches or parts; a score that is NaN in one is left out of its mean.

    A loss is never left out: where one is not finite, its mean is not.

    >>> means = Means()
    >>> means.add({"loss": 1.0, "dice": float("nan")}, 0.5)
    >>> means.add({"loss": 2.0, "dice": 0.7}, 0.5)
    >>> means.values()
    {'loss': 1.5, 'dice': 0.7}
    """

    def __init__(self) -> None:
        self._totals: defaultdict[str, float] = defaultdict(float)
        self._weights: defaultdict[str, float] = defaultdict(float)

    def add(self, values: dict[str, float], weight: float) -> None:
        """Take the values of one batch or part."""
        for name, value in values.items():
            if name == "loss" or math.isfinite(value):
                self._totals[name] += weight * value
                self._weights[name] += weight

    def values(self) -> dict[str, float]:
        """Return the means, without those that no part has."""
        return {name: total / self._weights[name] for name, total in self._totals.items()}


def _average_gradients(parameters: Sequence[nn.Parameter], n_processes: int) -> None:
    """Replace every process's gradients by their mean; where a process has none, it counts as zero."""
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= n_processes
    pieces = torch.split(together, [gradient.numel() for gradient in gradients])
    for weight, gradient, piece in zip(parameters, gradients, pieces, strict=True):
        weight.grad = gradient.copy_(piece.view_as(gradient))


def in_any_process(learner: Learner, flag: bool) -> bool:
    """Tell whether a flag is set in one of the processes, so that all do the same and none waits for ever."""
    if learner.processes.count == 1:
        return flag
    flags = torch.tensor(float(flag), device=learner.device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags)
