"""A training step while something else keeps a processor busy, against the same step on an idle machine.

The steps are those of U-Net on ResNet-18, in a process of its own whose threads are chosen as the command line chooses
them (`python -m tests.benchmarks.threads_speed`, which prints the seconds of each); in turn there is another process
that computes all the time, and none.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from fewshot.threads import settle_threads

if TYPE_CHECKING:
    from torch import Tensor

    from tests.benchmarks.measurements import Measurement

SIZES, BATCH, ROUNDS = (64, 160), 4, 3
SECONDS = 1.5  # of steps a round
NOTICED, FORGOTTEN = 1.0, 2.5  # seconds until the threads know of the other process, and know that it has gone


def measure() -> "list[Measurement]":
    """How many times as long a step takes, of small images and of larger ones."""
    from tests.benchmarks.measurements import at_most, measured

    command = [sys.executable, "-m", "tests.benchmarks.threads_speed"]
    root = Path(__file__).parents[2]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout  # noqa: S603
    found = []
    for size, (idle, busy) in json.loads(output).items():
        what = f"a training step while another process computes on one core, times the idle machine's ({size}x{size})"
        ratios = [slow / fast for slow, fast in zip(busy, idle, strict=True)]
        found += [
            measured(f"threads.busy.{size}", what, ratios, "x", wanted=at_most(2)),
            measured(f"threads.idle.{size}", "... the step on the idle machine", [1e3 * s for s in idle], "ms"),
        ]
    return found


def main() -> None:
    import torch

    from fewshot.config.training import EncoderConfig, ModelConfig
    from fewshot.networks import seeded_network
    from tests.benchmarks.machine import busy_processor

    model = ModelConfig(network="unet", levels=(0, 1, 2, 3))
    network = seeded_network(EncoderConfig(name="resnet18"), model, seed=0).train()
    found: dict[int, tuple[list[float], list[float]]] = {}
    for size in SIZES:
        labels = torch.zeros(BATCH, dtype=torch.long)
        batch = {"images": torch.rand(BATCH, 3, size, size), "label_maps": labels.new_ones(BATCH, size, size)}
        step = partial(seconds_each, partial(train, network, {**batch, "labels": labels}))
        step(1)  # what is done once
        idle, busy = [], []
        for _ in range(ROUNDS):
            idle.append(step(SECONDS))
            with busy_processor():
                step(NOTICED)
                busy.append(step(SECONDS))
            sleep(FORGOTTEN)
        found[size] = idle, busy
    print(json.dumps(found))


def train(network: Any, batch: "dict[str, Tensor]") -> None:
    network.zero_grad(set_to_none=True)
    network.loss(**batch)["loss"].backward()


def seconds_each(work: Callable[[], object], seconds: float) -> float:
    """Work for a while, and tell what it takes once."""
    begin, count = perf_counter(), 0
    while perf_counter() - begin < seconds:
        work()
        count += 1
    return (perf_counter() - begin) / count


if __name__ == "__main__":
    settle_threads(os.environ)
    main()
