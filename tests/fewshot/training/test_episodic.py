"""Training batches of episodes: which episodes a step has, and that nothing else decides it."""

import logging
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from episodes.augment.transforms import Augmentation
from episodes.errors import SamplingError
from episodes.sampling.episode import load_episode
from episodes.sampling.sampler import EpisodeSampler
from episodes.storage.store import Collection
from fewshot.config.data import EpisodesConfig
from fewshot.training.batches import EpisodeBatches, episode_samplers

PLAIN, STRONG = Augmentation("none"), Augmentation("strong")


def samplers(collection: Collection, *shots: int) -> tuple[EpisodeSampler, ...]:
    return episode_samplers(collection, EpisodesConfig(n_shot=shots), seed=0)


def test_a_step_stacks_its_episodes(linear_phantoms: Collection) -> None:
    sampler = EpisodeSampler(linear_phantoms.records, n_shot=2, n_query=2, seed=3)
    batch = EpisodeBatches(linear_phantoms, [sampler], 3, STRONG, seed=3)[4]
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
        return EpisodeBatches(linear_phantoms, samplers(linear_phantoms, 1, 2), 2, STRONG, scanner="random")

    forwards = [batches()[step] for step in range(5)]
    again = batches()
    for step in reversed(range(5)):
        assert all(torch.equal(tensor, forwards[step][name]) for name, tensor in again[step].items())


def test_a_step_s_episodes_have_one_number_of_shots_and_steps_take_turns_at_random(linear_phantoms: Collection) -> None:
    batches = EpisodeBatches(linear_phantoms, samplers(linear_phantoms, 1, 2, 4), 2, PLAIN, seed=9)
    shots = [batches[step]["support_images"].shape[2] for step in range(150)]
    assert all(30 < shots.count(n) < 70 for n in (1, 2, 4))
    assert sum(here == after for here, after in pairwise(shots)) in range(30, 70)
    assert shots[:40] != [
        EpisodeBatches(linear_phantoms, batches.samplers, 2, PLAIN, seed=8)[step]["support_images"].shape[2]
        for step in range(40)
    ]


def test_the_number_of_shots_does_not_tell_the_dataset(
    linear_phantoms: Collection, portable_phantoms: Collection
) -> None:
    """One episode a step: the step's choice and the episode's have the same seed and index."""
    both = Collection([*linear_phantoms.stores, *portable_phantoms.stores])
    batches = EpisodeBatches(both, samplers(both, 1, 2), 1, PLAIN)
    linear = {record.id for record in linear_phantoms.records}
    pairs = [
        (batches[step]["support_images"].shape[2], batches.samplers[0][step].query[0] in linear) for step in range(120)
    ]
    assert all(15 < pairs.count((shots, is_linear)) < 45 for shots in (1, 2) for is_linear in (False, True))


def test_a_single_number_of_shots_among_several_gives_the_same_episodes(linear_phantoms: Collection) -> None:
    several = EpisodeBatches(linear_phantoms, samplers(linear_phantoms, 1, 3), 2, STRONG)
    alone = {n: EpisodeBatches(linear_phantoms, samplers(linear_phantoms, n), 2, STRONG) for n in (1, 3)}
    for step in range(6):
        batch = several[step]
        expected = alone[batch["support_images"].shape[2]][step]
        assert all(torch.equal(tensor, expected[name]) for name, tensor in batch.items())


def test_every_episode_of_a_step_has_a_scanner_of_its_own(linear_phantoms: Collection) -> None:
    sampler = EpisodeSampler(linear_phantoms.records, n_shot=2, seed=3)
    batch = EpisodeBatches(linear_phantoms, [sampler], 2, STRONG, seed=3, scanner="random")[1]
    recorded = EpisodeBatches(linear_phantoms, [sampler], 2, STRONG, seed=3)[1]
    for place, index in enumerate((2, 3)):
        episode = load_episode(linear_phantoms, sampler[index], STRONG, seed=3, scanner="random")
        for name, tensor in batch.items():
            assert torch.equal(tensor[place], getattr(episode, name))
    assert not torch.equal(batch["support_images"], recorded["support_images"])


def test_a_configuration_becomes_a_sampler(linear_phantoms: Collection) -> None:
    config = EpisodesConfig(n_shot=1, n_query=2, classes=(("benign", "malignant"),))
    (sampler,) = episode_samplers(linear_phantoms, config, seed=5)
    assert sampler.parameters == {
        "n_shot": 1,
        "n_query": 2,
        "classes": [["benign", "malignant"]],
        "seed": 5,
        "pairing": "within",
    }


def test_several_numbers_of_shots_become_several_samplers(linear_phantoms: Collection) -> None:
    config = EpisodesConfig(n_shot=(1, 3), n_query=2)
    found = episode_samplers(linear_phantoms, config, seed=5)
    assert [sampler.parameters for sampler in found] == [
        {**episode_samplers(linear_phantoms, EpisodesConfig(n_shot=n, n_query=2), 5)[0].parameters} for n in (1, 3)
    ]


def test_too_many_shots_among_several_are_refused(linear_phantoms: Collection) -> None:
    with pytest.raises(SamplingError, match=r"\d patients, 51 needed \(50 support \+ 1 query\)"):
        episode_samplers(linear_phantoms, EpisodesConfig(n_shot=(1, 50)), seed=0)


def test_what_cannot_be_sampled_is_logged(
    linear_phantoms: Collection, portable_phantoms: Collection, caplog: pytest.LogCaptureFixture
) -> None:
    """A second dataset that has but one benign patient."""
    store = portable_phantoms.stores[0]
    benign = [record for record in store.records if record.label == "benign"]
    one_patient = [record for record in benign if record.patient == benign[0].patient]
    few = replace(store, records=tuple(one_patient))
    caplog.set_level(logging.WARNING)
    episode_samplers(Collection([*linear_phantoms.stores, few]), EpisodesConfig(classes=(("benign",),)), seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        "episodes: left out phantom-portable, class benign: 1 patient, 2 needed (1 support + 1 query)"
    ]
