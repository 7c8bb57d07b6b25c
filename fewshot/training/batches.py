"""Batches of a training and of its validation: episodes or images, by step."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from baselines.batches import ImageBatches
from episodes.augment.random_scanner import ScannerChoice
from episodes.augment.transforms import Augmentation
from episodes.errors import SamplingError
from episodes.sampling.episode import load_episode
from episodes.sampling.sampler import EpisodeSampler
from episodes.sampling.streams import Stream
from episodes.storage.store import Collection
from fewshot.config.data import EpisodesConfig
from fewshot.config.training import TrainConfig
from fewshot.training.partition import Partition

logger = logging.getLogger(__name__)

Batch = Mapping[str, Tensor]  # along the first axis of each: episodes or images


def batch_size(batch: Batch) -> int:
    """Return how many episodes or images a batch has."""
    return len(next(iter(batch.values())))


def divided(batch: Batch, parts: int) -> Iterator[dict[str, Tensor]]:
    """Divide a batch into consecutive parts that differ in size by one at most; no more of them than it has items.

    >>> import torch
    >>> [part["x"].tolist() for part in divided({"x": torch.arange(5)}, 2)]
    [[0, 1, 2], [3, 4]]
    """
    split = {name: tensor.tensor_split(min(parts, len(tensor))) for name, tensor in batch.items()}
    for pieces in zip(*split.values(), strict=True):
        yield dict(zip(split, pieces, strict=True))


def episode_samplers(collection: Collection, config: EpisodesConfig, seed: int) -> tuple[EpisodeSampler, ...]:
    """Build the configured samplers over all records, one per number of shots; log what they have to leave out."""
    others = config.model_dump(exclude={"n_shot"})
    samplers = tuple([EpisodeSampler(collection.records, n_shot=n, seed=seed, **others) for n in config.n_shot])
    for line in dict.fromkeys(line for sampler in samplers for line in sampler.left_out):
        logger.warning("episodes: left out %s", line)
    return samplers


class EpisodeBatches(Dataset[dict[str, Tensor]]):
    """Batches of equally shaped episodes. Every step draws which of the samplers its episodes come from.

    The seed is of that choice, the augmentation and the scanners; `scanner: random` shows each episode as one random
    scanner would.
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
        """Stack the episodes' tensors along a first axis, under the names of `Episode`."""
        # No sampler's stream has this seed: with its own, an episode's shots would tell its dataset.
        sampler = self.samplers[Stream(~self.seed, step).below(len(self.samplers))]
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        episodes = [
            load_episode(self.collection, sampler[index], self.augmentation, self.seed, self.scanner)
            for index in indices
        ]
        names = ("support_images", "support_masks", "query_images", "query_masks")
        return {name: torch.stack([getattr(episode, name) for episode in episodes]) for name in names}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A fixed `count` of episodes or images, in batches that are the same at every validation."""

    batches: Dataset[dict[str, Tensor]]
    count: int
    batch_size: int

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for index, first in enumerate(range(0, self.count, self.batch_size)):
            size = min(self.batch_size, self.count - first)
            yield {name: tensor[:size] for name, tensor in self.batches[index].items()}


def training_batches(network: nn.Module, part: Collection, config: TrainConfig) -> Dataset[dict[str, Tensor]]:
    """Build the batches that a network's `trains_on` asks for."""
    how = config.train
    augmentation = Augmentation(how.augmentation)
    if network.trains_on == "images":
        return ImageBatches(
            part,
            part.records,
            how.batch_size,
            augmentation,
            config.seed,
            how.scanner,
            how.balance,
            {label: Augmentation(strength) for label, strength in how.label_augmentation.items()},
        )
    samplers = episode_samplers(part, how.episodes, config.seed)
    return EpisodeBatches(part, samplers, how.batch_size, augmentation, config.seed, how.scanner)


def divided_batches(
    network: nn.Module, partition: Partition, config: TrainConfig
) -> tuple[Dataset[dict[str, Tensor]], HeldOut | None]:
    """Build the training batches, and what to validate on, where that is asked for: as recorded, every image once.

    Raises:
        SamplingError: if the patients do not suffice for both.
    """
    part, validation = partition.validation, config.train.validation
    if part is None or validation is None:
        return training_batches(network, partition.train, config), None
    plain = {"augmentation": "none", "label_augmentation": {}, "scanner": "recorded", "balance": "none"}
    unchanged = config.model_copy(update={"train": config.train.model_copy(update=plain)})
    try:
        batches = training_batches(network, partition.train, config)
        unseen = training_batches(network, part, unchanged)
    except SamplingError as error:
        raise SamplingError(
            f"train.validation: with a share of {validation.share:g} held out, {error};"
            " change the share, or set validation to null"
        ) from error
    count = len(part.records) if network.trains_on == "images" else validation.episodes
    return batches, HeldOut(unseen, count, config.train.batch_size)
