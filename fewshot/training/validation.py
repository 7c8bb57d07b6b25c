"""Validation: the loss on what is held out of training, and the weights with which it was lowest."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A fixed number of episodes or images, in batches that are the same at every validation.

    Attributes:
        batches: by index; dictionaries of tensors whose first axis is that of episodes or images.
        count: how many episodes or images there are.
        batch_size: how many a batch has; of the last one, no more are taken than are left.
    """

    batches: Dataset[dict[str, Tensor]]
    count: int
    batch_size: int

    def __iter__(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """The batches, each with its size."""
        for index, first in enumerate(range(0, self.count, self.batch_size)):
            size = min(self.batch_size, self.count - first)
            yield size, {name: tensor[:size] for name, tensor in self.batches[index].items()}


def validation_means(
    network: nn.Module,
    batches: Iterable[tuple[int, Mapping[str, Tensor]]],
    device: torch.device,
    autocast: torch.autocast,
) -> dict[str, float]:
    """A network's own losses and scores in evaluation mode, averaged over episodes or images.

    They are always the same for the same weights. A score that is NaN for a batch is left out of its mean; one that is
    so for every batch is not given.

    Args:
        network: has `loss(**batch)`; it is left in the mode that it is in.
        batches: with their sizes.
        device: the network's.
        autocast: the precision to compute in.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    done = 0
    training = network.training
    network.eval()
    try:
        for size, batch in batches:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), autocast:
                torch.manual_seed(done)
                losses: dict[str, Tensor] = network.loss(**{k: v.to(device) for k, v in batch.items()})  # type: ignore[operator]
            done += size
            for name, value in losses.items():
                if name == "loss" or bool(value.isfinite()):
                    totals[name] += size * float(value)
                    counts[name] += size
    finally:
        network.train(training)
    return {name: totals[name] / counts[name] for name in counts}


@dataclass(slots=True)
class Best:
    """The weights with the lowest validation loss so far.

    Attributes:
        step: after how many steps they were there; 0 before the first validation.
        loss: their validation loss.
        waited: validations since then.
        tensors: their network's state, empty before the first validation.
    """

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
