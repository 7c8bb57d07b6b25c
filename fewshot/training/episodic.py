"""Training batches of a few-shot network: step i's episodes depend on (seed, i) alone."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes.episode import load_episode
from episodes.random_scanner import ScannerChoice
from episodes.sampler import EpisodeSampler
from episodes.store import Collection
from episodes.streams import Stream
from episodes.transforms import Augmentation
from fewshot.config import EpisodesConfig

logger = logging.getLogger(__name__)


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
