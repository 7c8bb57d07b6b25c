"""What scoring takes of a benchmark: one few-shot row on cached features, where all else is as quick as can be.

The row's cells are evaluated, and in turn the same queries segmented alone: the difference is scoring.
"""

from collections.abc import Callable
from typing import Any

import torch

from episodes.sampling.draws import support_draws
from episodes.storage.store import Collection
from fewshot.config.training import EncoderConfig
from fewshot.inference.target import EncodedTarget, Task, evaluate, segment_queries
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from tests.benchmarks.features_speed import MODEL, SIZE, phantom_store
from tests.benchmarks.measurements import Measurement, at_most, interleaved, measured

N_IMAGES, SHOTS, REPEATS = 60, (1, 5), 3


def measure() -> list[Measurement]:
    """Which share of the time goes into scores, boundary distances and calibration bins."""
    store, device = phantom_store(N_IMAGES), torch.device("cpu")
    network = seeded_network(EncoderConfig(name="resnet50"), MODEL, seed=0).eval()
    method = SupportPrototypes(Ingredients(network, Sources(Collection([store]), store.records), device))
    target, draws = EncodedTarget(store, device), support_draws(store.records)
    tasks = [Task(draw.support[:shot], draw.queries) for draw in draws for shot in SHOTS]

    def each_task(work: Callable[[Any, EncodedTarget, Task], object]) -> Callable[[], object]:
        return lambda: [work(method, target, task) for task in tasks]

    target.features(method.encode)
    encoding = N_IMAGES * target.encode_seconds
    judged, segmented = interleaved(
        each_task(evaluate), each_task(lambda *given: list(segment_queries(*given))), repeats=REPEATS
    )
    scoring = [whole - part for whole, part in zip(judged, segmented, strict=True)]
    queries = sum(len(task.queries) for task in tasks)
    row = f"ResNet-50 to layer3, {SIZE}x{SIZE}, {N_IMAGES} images, {len(draws)} draws of 1 and 5 shots"
    return [
        measured(
            "scoring.share",
            f"scoring, as a share of a few-shot row on features computed once ({row})",
            [100 * part / (encoding + whole) for part, whole in zip(scoring, judged, strict=True)],
            "%",
            wanted=at_most(8),
        ),
        measured("scoring.query", "... scoring a query", [1e3 * seconds / queries for seconds in scoring], "ms"),
        measured("scoring.segmenting", "... segmenting it", [1e3 * seconds / queries for seconds in segmented], "ms"),
    ]
