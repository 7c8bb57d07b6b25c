"""Batches of a training: episodes, and how a batch is divided."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes.augment.random_scanner import ScannerChoice
from episodes.augment.transforms import Augmentation
from episodes.sampling.episode import load_episode
from episodes.sampling.sampler import EpisodeSampler
from episodes.sampling.streams import Stream
from episodes.storage.store import Collection
from fewshot.config.data import EpisodesConfig
from fewshot.devices import NotEnoughMemoryError

logger = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]  # along the first axis of each: episodes or images


@dataclass(slots=True)
class Parts:
    """In how many parts batches are computed: one, until memory does not suffice.

    Attributes:
        training: of a training batch.
        validation: of a validation batch, which needs no gradients and so may do with fewer.
    """

    training: int = 1
    validation: int = 1

    def double(self, kind: Literal["training", "validation"], n_items: int, step: int) -> None:
        """Compute in twice as many parts from here on.

        Args:
            kind: which batches did not fit.
            n_items: that the largest of them has.
            step: of the training, for the message.

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


def batch_size(batch: Batch) -> int:
    """How many episodes or images a batch has."""
    return len(next(iter(batch.values())))


def divided(batch: Batch, parts: int) -> Iterator[dict[str, Tensor]]:
    """Consecutive parts of a batch that differ in size by one at most; no more of them than it has items.

    >>> import torch
    >>> [part["x"].tolist() for part in divided({"x": torch.arange(5)}, 2)]
    [[0, 1, 2], [3, 4]]
    """
    split = {name: tensor.tensor_split(min(parts, len(tensor))) for name, tensor in batch.items()}
    for pieces in zip(*split.values(), strict=True):
        yield dict(zip(split, pieces, strict=True))


def all_divided(batches: Iterable[tuple[int, Batch]], parts: int) -> Iterator[tuple[int, Batch]]:
    """Batches with their sizes, each in parts with theirs."""
    for _, batch in batches:
        for part in divided(batch, parts):
            yield batch_size(part), part


def episode_samplers(collection: Collection, config: EpisodesConfig, seed: int) -> tuple[EpisodeSampler, ...]:
    """The configured samplers over all records, one per number of shots; what they have to leave out is logged."""
    others = config.model_dump(exclude={"n_shot"})
    samplers = tuple([EpisodeSampler(collection.records, n_shot=n, seed=seed, **others) for n in config.n_shot])
    for line in dict.fromkeys(line for sampler in samplers for line in sampler.left_out):
        logger.warning("episodes: left out %s", line)
    return samplers


def episode_sampler(collection: Collection, config: EpisodesConfig, seed: int) -> EpisodeSampler:
    """The configured sampler over all records, where one number of shots is configured."""
    (sampler,) = episode_samplers(collection, config, seed)
    return sampler


class EpisodeBatches(Dataset[dict[str, Tensor]]):
    """Batches of equally shaped episodes. Every step draws which of the samplers its episodes come from.

    Args:
        collection: holds the pixels of the samplers' records.
        samplers: say which records each episode has: one or several, that differ in their shots.
        batch_size: episodes per step.
        augmentation: of every image with its mask.
        seed: of the choice among samplers, the augmentation and the scanners.
        scanner: `random` shows each episode as one random scanner would.
    """

    def __init__(
        self,
        collection: Collection,
        samplers: Sequence[EpisodeSampler],
        batch_size: int,
        augmentation: Augmentation,
        seed: int = 0,
        scanner: ScannerChoice = "recorded",
    ) -> None:
        self.collection = collection
        self.samplers = tuple(samplers)
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed
        self.scanner = scanner

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The episodes' tensors stacked along a first axis, under the names of `Episode`."""
        sampler = self._sampler(step)
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        episodes = [
            load_episode(self.collection, sampler[index], self.augmentation, self.seed, self.scanner)
            for index in indices
        ]
        return {
            "support_images": torch.stack([episode.support_images for episode in episodes]),
            "support_masks": torch.stack([episode.support_masks for episode in episodes]),
            "query_images": torch.stack([episode.query_images for episode in episodes]),
            "query_masks": torch.stack([episode.query_masks for episode in episodes]),
        }

    def _sampler(self, step: int) -> EpisodeSampler:
        # No sampler's stream has this seed: with its own, an episode's shots would tell its dataset.
        return self.samplers[Stream(~self.seed, step).below(len(self.samplers))]
