"""The same configuration gives the same bytes, whatever the number of workers and processes."""

import shutil
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from episodes.sampling.sampler import EpisodeSampler
from fewshot.benchmark.evaluation import CellEvaluation
from fewshot.benchmark.run import run_benchmark
from fewshot.benchmark.tasks import protocol_of
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import load_config
from fewshot.results.rows import Cell, read_table
from fewshot.stores import open_store
from tests.episodes.made_records import made_dataset
from tests.fewshot.tiny_runs import silent
from tests.survival.children import ended, in_child, run
from tests.survival.pipeline import COMMANDS, Stage

COUNTS = [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 4))]  # of workers or processes

any_number = pytest.mark.parametrize("count", COUNTS)


@pytest.mark.parametrize("command", ["train", "benchmark"])
def test_the_same_command_gives_the_same_bytes(command: str, undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    stage = undisturbed[command]
    folder = stage.begin(tmp_path / "again")
    assert stage.run(folder).status == 0
    stage.assert_complete(folder)


@any_number
def test_workers_change_no_byte_of_a_training(count: int, undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    """Neither of the checkpoint nor of the losses; undisturbed, the process read its batches itself."""
    stage = undisturbed["train"]
    folder = stage.begin(tmp_path / "workers")
    assert run(folder, *COMMANDS["train"], f"train.workers={count}").status == 0
    stage.assert_complete(folder)


@any_number
def test_processes_change_no_episode(count: int) -> None:
    sampler = EpisodeSampler(made_dataset("a", {"benign": 9, "malignant": 7}, 3), n_shot=2, n_query=2, seed=3)
    with get_context("forkserver").Pool(count) as processes:
        specs = processes.map(sampler.__getitem__, range(40), chunksize=1)
    assert specs == [sampler[index] for index in range(40)]


@any_number
def test_processes_that_share_the_cells_change_no_score(
    count: int, undisturbed: dict[str, Stage], tmp_path: Path
) -> None:
    """Each evaluates its share into one folder, all at once; the benchmark then gathers what is there."""
    stage = undisturbed["benchmark"]
    folder = Path(shutil.copytree(undisturbed["report"].before, tmp_path / "shared"))
    table = read_table(folder / "runs" / "tiny" / "results.parquet")
    rows = table.select(["target", "method", "seed", "shot", "draw"]).to_pylist()
    cells = sorted({Cell(**row) for row in rows})
    shutil.rmtree(folder / "runs" / "tiny" / "cells")
    (folder / "runs" / "tiny" / "results.parquet").unlink()
    processes = [in_child(evaluate_share, folder, cells[first::count]) for first in range(count)]
    for process in processes:
        assert (share := ended(folder, process)).status == 0, share.said
    assert len(list((folder / "runs" / "tiny" / "cells").rglob("*.parquet"))) == len(cells)
    assert (gathered := ended(folder, in_child(gather, folder))).status == 0, gathered.said
    stage.assert_complete(folder)


def evaluate_share(cells: list[Cell]) -> None:
    """Evaluate some cells of the run in the working folder."""
    config = load_config(Path("benchmark.yaml"), BenchmarkConfig)
    stores = {name: open_store(config, name, silent()) for name in config.datasets}
    protocols = {name: protocol_of(config, name, stores[name].records) for name in config.targets}
    evaluation = CellEvaluation(config, config.runs / config.name, torch.device("cpu"), stores, protocols)
    for cell in cells:
        assert list(evaluation.evaluate([cell], silent()))


def gather() -> None:
    """Finish the run in the working folder."""
    run_benchmark(load_config(Path("benchmark.yaml"), BenchmarkConfig), silent())
