"""Training batches of a few-shot network: step i's episodes depend on (seed, i) alone."""

import logging

import torch
from torch import Tensor
from torch.utils.data import Dataset

from episodes.episode import load_episode
from episodes.sampler import EpisodeSampler
from episodes.store import Collection
from episodes.transforms import Augmentation
from fewshot.config import EpisodesConfig

logger = logging.getLogger(__name__)


def episode_sampler(collection: Collection, config: EpisodesConfig, seed: int) -> EpisodeSampler:
    """The configured sampler over all records; what it has to leave out is logged."""
    sampler = EpisodeSampler(collection.records, seed=seed, **config.model_dump())
    for line in sampler.left_out:
        logger.warning("episodes: left out %s", line)
    return sampler


class EpisodeBatches(Dataset[dict[str, Tensor]]):
    """Batches of equally shaped episodes.

    Args:
        collection: holds the pixels of the sampler's records.
        sampler: says which records each episode has.
        batch_size: episodes per step.
        augmentation: of every image with its mask.
        seed: of the augmentation.
    """

    def __init__(
        self,
        collection: Collection,
        sampler: EpisodeSampler,
        batch_size: int,
        augmentation: Augmentation,
        seed: int = 0,
    ) -> None:
        self.collection = collection
        self.sampler = sampler
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """The episodes' tensors stacked along a first axis, under the names of `Episode`."""
        indices = range(step * self.batch_size, (step + 1) * self.batch_size)
        episodes = [
            load_episode(self.collection, self.sampler[index], self.augmentation, self.seed) for index in indices
        ]
        return {
            "support_images": torch.stack([episode.support_images for episode in episodes]),
            "support_masks": torch.stack([episode.support_masks for episode in episodes]),
            "query_images": torch.stack([episode.query_images for episode in episodes]),
            "query_masks": torch.stack([episode.query_masks for episode in episodes]),
        }
