"""Evaluation on features that are computed once, against evaluation episode by episode, in one run.

PANet on a ResNet-50 up to layer3 (output stride 8, 256x256) segments the queries of 1,000 1-shot and 1,000 5-shot
episodes over 600 phantom images, both ways with the same code but for where the features come from. Episode by
episode that is 8,000 passes through the encoder, an hour on two cores: unless `full` is set, a random sample of the
episodes is timed, and scaled to all.
"""

from collections.abc import Sequence
from dataclasses import astuple
from time import perf_counter

import numpy as np
import torch

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import prepare_phantoms
from episodes.phantoms.population import PhantomSpec
from episodes.sampling.sampler import EpisodeSampler, EpisodeSpec
from episodes.scoring.mask_scores import Scores
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection, Store
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.inference.target import EncodedTarget, Task, evaluate
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from fewshot.stores import default_cache

SIZE = 256
SHOTS = (1, 5)
N_EPISODES = 1_000  # of each number of shots
N_TIMED = 10  # of them, episode by episode
MODEL = ModelConfig(network="panet", levels=(3,), output_stride=8)


def measure(*, full: bool = False, n_images: int = 600, encoder: str = "resnet50") -> list[str]:
    """Lines that say how long both ways take, and how far their scores are apart.

    Args:
        full: time every episode both ways.
        n_images: phantoms to draw episodes from.
        encoder: a timm name.
    """
    store = phantom_store(n_images)
    network = seeded_network(EncoderConfig(name=encoder), MODEL, seed=0).eval()
    method = SupportPrototypes(Ingredients(network, Sources(Collection([store]), store.records), torch.device("cpu")))
    target = EncodedTarget(store, torch.device("cpu"))
    episodes = {shot: sampled_episodes(store, shot) for shot in SHOTS}
    chosen = {shot: timed_episodes(specs, full) for shot, specs in episodes.items()}
    evaluate_all(method, target, chosen[1][:1], cached=False)  # what is done once, such as warming caches up

    begin = perf_counter()
    target.features(method.encode)
    encoding = perf_counter() - begin
    cached = {shot: evaluate_all(method, target, specs, cached=True) for shot, specs in episodes.items()}
    whole = perf_counter() - begin

    lines = [
        f"{encoder} to layer3, {SIZE}x{SIZE}, {n_images} images, {torch.get_num_threads()} thread(s)",
        f"encoding every image once: {encoding:.1f} s",
        f"all {sum(map(len, episodes.values())):,} episodes on features computed once: {whole:.1f} s with the encoding",
        f"{whole / encoding:.2f}x the time of encoding alone (at most 1.3x wanted)",
    ]
    estimate, apart = 0.0, 0.0
    for shot, specs in chosen.items():
        begin = perf_counter()
        alone = evaluate_all(method, target, specs, cached=False)
        seconds = (perf_counter() - begin) / len(specs)
        estimate += seconds * N_EPISODES
        apart = max(apart, largest_difference(alone, [cached[shot][spec.index] for spec in specs]))
        lines.append(
            f"episode by episode, {shot}-shot: {seconds:.3f} s per episode, mean of {len(specs)} chosen at random"
        )
    lines.append(
        f"episode by episode, all: {estimate:.0f} s{'' if full else ' (scaled)'};"
        f" cached features are {estimate / whole:.1f}x as fast (at least 8x wanted)"
    )
    lines.append(f"scores of the same episodes: at most {apart:.1e} apart (1e-4 wanted)")
    return lines


def phantom_store(n_images: int) -> Store:
    root = prepare_phantoms(PhantomSpec("linear", n_images, size=SIZE), default_cache() / "phantoms")
    return prepare_store(read_dataset("phantom", root), default_cache() / "stores", (SIZE, SIZE))


def sampled_episodes(store: Store, shot: int) -> list[EpisodeSpec]:
    return list(EpisodeSampler(store.records, n_shot=shot, n_query=1, seed=0).specs(0, N_EPISODES))


def timed_episodes(specs: Sequence[EpisodeSpec], full: bool) -> list[EpisodeSpec]:
    chosen = np.random.default_rng(0).choice(len(specs), N_TIMED, replace=False)
    return list(specs) if full else [specs[index] for index in sorted(chosen)]


def evaluate_all(
    method: SupportPrototypes, target: EncodedTarget, specs: Sequence[EpisodeSpec], *, cached: bool
) -> list[Scores]:
    tasks = (Task(spec.support[0], spec.query) for spec in specs)
    return [evaluate(method, target, task, cached=cached)[0].scores for task in tasks]


def largest_difference(first: Sequence[Scores], second: Sequence[Scores]) -> float:
    """Over episodes and scores; a score that is undefined on one side alone is infinitely far."""
    pairs = np.array([[astuple(scores) for scores in side] for side in (first, second)])
    undefined = np.isnan(pairs)
    apart = np.where(undefined[0] & undefined[1], 0.0, np.abs(pairs[0] - pairs[1]))
    return float(np.nan_to_num(apart, nan=np.inf).max())
