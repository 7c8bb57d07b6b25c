"""What rows cost: measured in a run, added up over draws, kept apart from results."""

from mmap import mmap
from pathlib import Path

import pytest
import torch

from episodes.errors import UserError
from fewshot.benchmark.evaluation import peak_bytes, start_peak
from fewshot.benchmark.run import run_benchmark
from fewshot.checkpoints import load_network
from fewshot.results.run_files import Cost, read_costs, write_costs
from tests.fewshot.tiny_runs import METHODS, silent, tiny_benchmark

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = {name: METHODS[name] for name in ("empty", "PANet untrained", "PANet", "U-Net fine-tuned")}
    return run_benchmark(tiny_benchmark(tmp_path_factory.mktemp("costs"), methods=methods), silent())


def test_every_row_has_its_cost(run: Path) -> None:
    costs = {(cost.method, cost.shot): cost for cost in read_costs(run)}
    assert set(costs) == {("empty", 0)} | {
        (method, shot) for method in ("PANet untrained", "PANet", "U-Net fine-tuned") for shot in (1, 2)
    }
    assert all(cost.adapt_seconds > 0 and cost.image_seconds > 0 for cost in costs.values())
    assert costs["U-Net fine-tuned", 1].adapt_seconds > costs["PANet", 1].adapt_seconds  # it takes optimiser steps
    assert costs["empty", 0].device.startswith("cpu, ")


def test_a_row_counts_its_network_and_its_training(run: Path) -> None:
    costs = {(cost.method, cost.shot): cost for cost in read_costs(run)}
    network = load_network(run / "models" / "panet-seed0" / "checkpoint.safetensors")[0]
    assert costs["PANet", 1].parameters == sum(weights.numel() for weights in network.parameters())
    assert costs["PANet", 1].training_seconds is not None
    assert costs["PANet", 1].training_seconds > 0
    assert costs["PANet untrained", 1].training_seconds is None
    assert (costs["empty", 0].parameters, costs["empty", 0].training_seconds) == (None, None)


def test_costs_come_back_as_they_were_written(tmp_path: Path) -> None:
    costs = [
        Cost("t", "A", 0, 1, 0.1, 0.02, None, 7, None, "cpu"),
        Cost("t", "B", 1, 5, 1.5, 0.2, 10, None, 60.0, "gpu"),
    ]
    write_costs(tmp_path, costs)
    assert read_costs(tmp_path) == costs


def test_no_costs_are_none_and_damaged_ones_are_named(tmp_path: Path) -> None:
    assert read_costs(tmp_path) == []
    (tmp_path / "costs.json").write_text('[{"target": "t"}]')
    with pytest.raises(UserError, match=r"costs\.json: damaged.*delete it, and run the benchmark again"):
        read_costs(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak memory")
def test_a_peak_shows_what_was_held_meanwhile() -> None:
    start_peak(CPU)
    before = peak_bytes(CPU)
    held = mmap(-1, 64 << 20)  # new pages: an allocator might give out again what earlier tests have left it
    held.write(bytes(len(held)))
    after = peak_bytes(CPU)
    assert before is not None
    assert after is not None
    assert after - before > 0.9 * len(held)
