"""Training batches of episodes: which episodes a step has, and that nothing else decides it."""

import logging
from dataclasses import replace

import pytest
import torch

from episodes.episode import load_episode
from episodes.sampler import EpisodeSampler
from episodes.store import Collection
from episodes.transforms import Augmentation
from fewshot.config import EpisodesConfig
from fewshot.episodic import EpisodeBatches, episode_sampler

STRONG = Augmentation("strong")


def test_a_step_stacks_its_episodes(linear_phantoms: Collection) -> None:
    sampler = EpisodeSampler(linear_phantoms.records, n_shot=2, n_query=2, seed=3)
    batch = EpisodeBatches(linear_phantoms, sampler, 3, STRONG, seed=3)[4]
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "support_images": (3, 1, 2, 3, 64, 64),
        "support_masks": (3, 1, 2, 64, 64),
        "query_images": (3, 2, 3, 64, 64),
        "query_masks": (3, 2, 64, 64),
    }
    for place, index in enumerate((12, 13, 14)):
        episode = load_episode(linear_phantoms, sampler[index], STRONG, seed=3)
        for name, tensor in batch.items():
            assert torch.equal(tensor[place], getattr(episode, name))


def test_a_step_does_not_depend_on_those_before_it(linear_phantoms: Collection) -> None:
    def batches() -> EpisodeBatches:
        return EpisodeBatches(linear_phantoms, EpisodeSampler(linear_phantoms.records, n_shot=1), 2, STRONG)

    forwards = [batches()[step] for step in range(5)]
    again = batches()
    for step in reversed(range(5)):
        assert all(torch.equal(tensor, forwards[step][name]) for name, tensor in again[step].items())


def test_a_configuration_becomes_a_sampler(linear_phantoms: Collection) -> None:
    config = EpisodesConfig(n_shot=1, n_query=2, classes=(("benign", "malignant"),))
    sampler = episode_sampler(linear_phantoms, config, seed=5)
    assert sampler.parameters == {
        "n_shot": 1,
        "n_query": 2,
        "classes": [["benign", "malignant"]],
        "seed": 5,
        "pairing": "within",
    }


def test_what_cannot_be_sampled_is_logged(
    linear_phantoms: Collection, portable_phantoms: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    """A second dataset that has but one benign patient."""
    store = portable_phantoms.stores[0]
    benign = [record for record in store.records if record.label == "benign"]
    one_patient = [record for record in benign if record.patient == benign[0].patient]
    few = replace(store, records=tuple(one_patient))
    caplog.set_level(logging.WARNING)
    episode_sampler(Collection([*linear_phantoms.stores, few]), EpisodesConfig(classes=(("benign",),)), seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        "episodes: left out phantom-portable, class benign: 1 patient, 2 needed (1 support + 1 query)"
    ]
