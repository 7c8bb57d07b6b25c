"""Validation: patients held out of the sources, the loss on them, and the weights with which it was lowest."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from episodes.records import Record
from episodes.splits import split_records
from episodes.store import Collection

logger = logging.getLogger(__name__)


class Part(Collection):
    """Some of a collection's records, in the same stores."""

    def __init__(self, whole: Collection, records: Sequence[Record]) -> None:
        super().__init__(whole.stores)
        self._records = tuple(records)

    @property
    def records(self) -> tuple[Record, ...]:
        """The part's records alone."""
        return self._records


def hold_out(sources: Collection, share: float, seed: int) -> tuple[Part, Part]:
    """What is trained on, and what is held out: no patient, and so no near-duplicate, is on both sides.

    Args:
        sources: of all patients.
        share: of the images to hold out, above 0 and below 1, of each label of each dataset alike.
        seed: chooses the patients.

    Raises:
        SamplingError: if there are too few patients for two parts.
    """
    split = split_records(sources.records, {"train": 1 - share, "held out": share}, seed)
    kept, held = (Part(sources, split.select(sources.records, part)) for part in ("train", "held out"))
    patients = len({record.patient_id for record in held.records})
    logger.info("validation: %d images of %d patients are held out", len(held.records), patients)
    return kept, held


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


def validation_loss(
    network: nn.Module,
    batches: Iterable[tuple[int, dict[str, Tensor]]],
    device: torch.device,
    autocast: torch.autocast,
) -> float:
    """A network's own loss in evaluation mode, averaged over episodes or images; always the same for the same weights.

    Args:
        network: has `loss(**batch)`; it is left in the mode that it is in.
        batches: with their sizes.
        device: the network's.
        autocast: the precision to compute in.
    """
    total, count = 0.0, 0
    training = network.training
    network.eval()
    for size, batch in batches:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), autocast:
            torch.manual_seed(count)
            losses: dict[str, Tensor] = network.loss(**{k: v.to(device) for k, v in batch.items()})  # type: ignore[operator]
        total += size * float(losses["loss"])
        count += size
    network.train(training)
    return total / count


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
