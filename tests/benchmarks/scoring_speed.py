"""What scoring takes of a benchmark: one few-shot row on cached features, where all else is as quick as can be."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import torch

import fewshot.inference.target
from episodes.sampling.draws import support_draws
from episodes.storage.store import Collection
from fewshot.config.training import EncoderConfig, ModelConfig
from fewshot.inference.target import EncodedTarget, Task, evaluate
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.prototypical import SupportPrototypes
from fewshot.networks import seeded_network
from tests.benchmarks.features_speed import SIZE, phantom_store

MODEL = ModelConfig(network="panet", levels=(3,), output_stride=8)
N_IMAGES, SHOTS = 200, (1, 5)


def measure() -> list[str]:
    """Lines that say which share of the time goes into scores, boundary distances and calibration bins."""
    store, device = phantom_store(N_IMAGES), torch.device("cpu")
    network = seeded_network(EncoderConfig(name="resnet50"), MODEL, seed=0).eval()
    method = SupportPrototypes(Ingredients(network, Sources(Collection([store]), store.records), device))
    target, queries = EncodedTarget(store, device), 0
    with timed_judging() as judging:
        begin = perf_counter()
        for draw in support_draws(store.records):
            for shot in SHOTS:
                queries += len(evaluate(method, target, Task(draw.support[:shot], draw.queries)))
        whole = perf_counter() - begin
    return [
        f"ResNet-50 to layer3, {SIZE}x{SIZE}, {N_IMAGES} images, 5 draws of {' and '.join(map(str, SHOTS))} shots",
        f"the whole row: {whole:.1f} s, of which encoding {N_IMAGES * target.encode_seconds:.1f} s",
        f"scoring {queries:,} queries: {judging[0]:.1f} s, {1e3 * judging[0] / queries:.1f} ms each",
        f"share of the whole: {judging[0] / whole:.0%} (under 20 % wanted)",
    ]


@contextmanager
def timed_judging() -> Iterator[list[float]]:
    """Add up the seconds spent in judging while the block runs."""
    seconds, judge = [0.0], fewshot.results.rows.judge

    def timed(*arguments: Any) -> Any:
        begin = perf_counter()
        judgement = judge(*arguments)
        seconds[0] += perf_counter() - begin
        return judgement

    fewshot.results.rows.judge = timed
    try:
        yield seconds
    finally:
        fewshot.results.rows.judge = judge
