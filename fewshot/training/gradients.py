"""The gradients of one training step: over a whole batch, over its parts where memory asks for it, over processes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed
from torch import Tensor, nn

from fewshot.devices import NotEnoughMemoryError, Processes, within_memory
from fewshot.training.batches import Batch, batch_size, divided
from fewshot.training.learner import Learner

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolved_precision(precision: str, device: torch.device) -> str:
    """What `auto` stands for on a device: bfloat16 where it has instructions for it, float32 elsewhere.

    Without them bfloat16 is correct, but slower than float32. Any other precision stands for itself.

    >>> resolved_precision("float16", torch.device("cpu"))
    'float16'
    """
    if precision != "auto":
        return precision
    return "bfloat16" if _computes_in_bfloat16(device) else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which a network computes in a precision; float32 leaves it as it is."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32")


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private, but the only questions of torch 2.6 to 2.14 that ask for instructions and not for an emulation.
    asked = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)
    return device.type == "cpu" and any(supported() for supported in asked)


@dataclass(frozen=True, slots=True)
class Gradients:
    """Fills a learner's gradients, batch by batch.

    A batch that does not fit in memory is computed in two parts, one after the other, then in four, and so on, as all
    later ones are. Each part's loss counts by its share of the items, so that the gradients are the whole batch's, but
    for rounding, where a loss is a mean over items. It is not quite so where items of a batch meet: batch norm takes
    its statistics from each part (and updates its running ones with each), a Dice loss over all pixels of a batch and
    means over those items alone that have a label are taken within each part; and dropout draws other numbers. The
    result still depends on nothing but the seed and the numbers of parts, which the training's state holds.

    Attributes:
        learner: the network, and what its training carries along.
        device: where it computes.
        processes: those that train together. Gradients are averaged over them when all have computed theirs, not
            meanwhile: where one ran out of memory halfway, the others would wait for it for ever. So they all know,
            and all divide their batches alike.
        autocast: the precision.
    """

    learner: Learner
    device: torch.device
    processes: Processes
    autocast: torch.autocast

    def fill(self, batch: Batch, step: int, seed: int) -> dict[str, float]:
        """Compute the gradients of this step's loss, the mean over all processes.

        Args:
            batch: of this process.
            step: its number, for messages.
            seed: of whatever is random within the step.

        Returns:
            The losses and scores of this process's batch; of several parts, their means over the parts that have them.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single item, in any process.
        """
        network, parts = self.learner.network, self.learner.parts
        buffers = [buffer.clone() for buffer in network.buffers()]
        while True:
            attempt = partial(self._accumulate, batch, seed)
            try:
                values = within_memory(attempt, f"{self.device}, step {step + 1}")
            except NotEnoughMemoryError:
                values = {}
            if not in_any_process(self.processes, self.device, not values):
                break
            self._forget(buffers)
            parts.double("training", batch_size(batch), step)
        if self.processes.count > 1:
            average_gradients(self.learner.trainable, self.processes.count)
        return values

    def _accumulate(self, batch: Batch, seed: int) -> dict[str, float]:
        """Add up the gradients of a batch's parts."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        count, means = batch_size(batch), Means()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for part in divided(batch, self.learner.parts.training):
                with self.autocast:
                    losses: dict[str, Tensor] = self.learner.network.loss(  # type: ignore[operator]
                        **{name: tensor.to(self.device) for name, tensor in part.items()}
                    )
                share = batch_size(part) / count
                self.learner.scaler.scale(losses["loss"] * share).backward()  # type: ignore[no-untyped-call]
                means.add({name: float(value.detach()) for name, value in losses.items()}, share)
        return means.values()

    def _forget(self, buffers: Sequence[Tensor]) -> None:
        """Undo what a failed attempt has left: running statistics, and gradients."""
        self.learner.optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self.learner.network.buffers(), buffers, strict=True):
            buffer.copy_(before)


class Means:
    """Means of losses and scores over parts, by their share; a score that is NaN in a part is left out of its mean.

    A loss is never left out: where one is not finite, its mean is not.

    >>> means = Means()
    >>> means.add({"loss": 1.0, "dice": float("nan")}, 0.5)
    >>> means.add({"loss": 2.0, "dice": 0.7}, 0.5)
    >>> means.values()
    {'loss': 1.5, 'dice': 0.7}
    """

    def __init__(self) -> None:
        self._totals: defaultdict[str, float] = defaultdict(float)
        self._shares: defaultdict[str, float] = defaultdict(float)

    def add(self, values: dict[str, float], share: float) -> None:
        """Take the values of one part."""
        for name, value in values.items():
            if name == "loss" or math.isfinite(value):
                self._totals[name] += share * value
                self._shares[name] += share

    def values(self) -> dict[str, float]:
        """The means, without those that no part has."""
        return {name: total / self._shares[name] for name, total in self._totals.items()}


def average_gradients(parameters: Sequence[nn.Parameter], n_processes: int) -> None:
    """Replace every process's gradients by their mean; where a process has none, it counts as zero."""
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in parameters]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(together)
    together /= n_processes
    pieces = torch.split(together, [gradient.numel() for gradient in gradients])
    for weight, gradient, piece in zip(parameters, gradients, pieces, strict=True):
        weight.grad = gradient.copy_(piece.view_as(gradient))


def in_any_process(processes: Processes, device: torch.device, flag: bool) -> bool:
    """Whether a flag is set in one of the processes, so that all of them do the same and none waits for ever."""
    if processes.count == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
    return bool(flags)
