"""Evaluation on features that are computed once, against evaluation episode by episode, in one run.

PANet on a ResNet-50 up to layer3 (output stride 8, 256x256) segments the queries of 1,000 1-shot and 1,000 5-shot
episodes over 600 phantom images, both ways with the same code but for where the features come from. Episode by
episode that is 8,000 passes through the encoder, an hour on two cores. Unless `full` is set, a sixth of the images is
encoded, a tenth of the episodes is evaluated on them, and some of those episode by episode, in turn and several times;
their seconds are scaled to all. The features spill to disk in the same proportion.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
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
from fewshot.features import FEATURE_MEMORY
from fewshot.inference.target import EncodedTarget, Task, evaluate
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from fewshot.stores import default_cache
from tests.benchmarks.measurements import Measurement, at_least, at_most, measured

SIZE = 256
SHOTS = (1, 5)
N_IMAGES = 600
N_EPISODES = 1_000  # of each number of shots
MODEL = ModelConfig(network="panet", levels=(3,), output_stride=8)
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Sample:
    """How much of it is timed: images, and episodes of each number of shots on cached features and one by one."""

    images: int
    cached: int
    alone: int
    repeats: int


ALL, SOME = Sample(N_IMAGES, N_EPISODES, N_EPISODES, 1), Sample(100, 100, 3, 3)


@dataclass(frozen=True, slots=True)
class Seconds:
    """What all images and episodes take: encoding each image once, episodes on cached features, and one by one."""

    encoding: float
    cached: float
    alone: float

    @property
    def whole(self) -> float:
        return self.encoding + self.cached


def measure(*, full: bool = False) -> list[Measurement]:
    """How long both ways take, and how far their scores are apart; `full` times every episode both ways."""
    sample = ALL if full else SOME
    store = phantom_store(sample.images)
    network = seeded_network(EncoderConfig(name="resnet50"), MODEL, seed=0).eval()
    method = SupportPrototypes(Ingredients(network, Sources(Collection([store]), store.records), CPU))
    specs = {shot: list(EpisodeSampler(store.records, n_shot=shot).specs(0, sample.cached)) for shot in SHOTS}
    evaluate_all(method, EncodedTarget(store, CPU), specs[1][:1], cached=False)  # what is done once
    found, apart = zip(*(seconds_of_all(method, store, specs, sample) for _ in range(sample.repeats)), strict=True)
    task = f"ResNet-50 to layer3, {SIZE}x{SIZE}, {N_IMAGES} images"
    scaled = "" if full else f"scaled from {sample.images} images, {sample.cached} and {sample.alone} episodes a shot"
    return [
        measured(
            "features.encoding",
            f"2,000 episodes on features computed once, times the time of encoding each image once ({task})",
            [seconds.whole / seconds.encoding for seconds in found],
            "x",
            wanted=at_most(1.15),
            note=scaled,
        ),
        measured(
            "features.alone",
            "... times as fast as episode by episode",
            [seconds.alone / seconds.whole for seconds in found],
            "x",
            wanted=at_least(12),
            note=scaled,
        ),
        measured(
            "features.difference",
            "... the largest difference between the scores of both ways",
            apart,
            "",
            wanted=at_most(1e-4),
        ),
        measured("features.image", "... encoding an image", [1e3 * s.encoding / N_IMAGES for s in found], "ms"),
        measured(
            "features.episode",
            "... an episode on cached features, 1-shot and 5-shot in equal parts",
            [1e3 * s.cached / (len(SHOTS) * N_EPISODES) for s in found],
            "ms",
        ),
    ]


def seconds_of_all(
    method: SupportPrototypes, store: Store, specs: dict[int, list[EpisodeSpec]], sample: Sample
) -> tuple[Seconds, float]:
    """Time a sample once, and scale it; besides, the largest difference between the scores of both ways."""
    # Features of all images would not fit into the memory that is theirs by default, so part of them lies on disk.
    target = EncodedTarget(store, CPU, memory=FEATURE_MEMORY * sample.images // N_IMAGES)
    begin = perf_counter()
    target.features(method.encode)
    encoding = (perf_counter() - begin) * N_IMAGES / sample.images
    cached = alone = apart = 0.0
    for of_shot in specs.values():
        begin = perf_counter()
        scores = evaluate_all(method, target, of_shot, cached=True)
        cached += (perf_counter() - begin) * N_EPISODES / sample.cached
        chosen = sorted(np.random.default_rng(0).choice(sample.cached, sample.alone, replace=False))
        begin = perf_counter()
        one_by_one = evaluate_all(method, target, [of_shot[index] for index in chosen], cached=False)
        alone += (perf_counter() - begin) * N_EPISODES / sample.alone
        apart = max(apart, largest_difference(one_by_one, [scores[index] for index in chosen]))
    return Seconds(encoding, cached, alone), apart


def phantom_store(n_images: int) -> Store:
    root = prepare_phantoms(PhantomSpec("linear", n_images, size=SIZE), default_cache() / "phantoms")
    return prepare_store(read_dataset("phantom", root), default_cache() / "stores", (SIZE, SIZE))


def evaluate_all(
    method: SupportPrototypes, target: EncodedTarget, specs: Sequence[EpisodeSpec], *, cached: bool
) -> list[Scores]:
    tasks = (Task(spec.support[0], spec.query) for spec in specs)
    return [evaluate(method, target, task, cached=cached)[0].scores for task in tasks]


def largest_difference(first: Sequence[Scores], second: Sequence[Scores]) -> float:
    """Over episodes and scores; a score that is undefined on one side alone is an error."""
    pairs = np.array([[astuple(scores) for scores in side] for side in (first, second)])
    undefined = np.isnan(pairs)
    if (undefined[0] != undefined[1]).any():
        raise AssertionError("a score is defined one way and undefined the other")
    return float(np.nanmax(np.abs(pairs[0] - pairs[1])))
