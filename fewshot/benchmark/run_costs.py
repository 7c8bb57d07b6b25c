"""What a benchmark's rows cost, gathered from its cells and trainings."""

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from fewshot.benchmark.cell_evaluation import cost_path
from fewshot.benchmark.costs import Cost, write_costs
from fewshot.benchmark.trainings import Training, training_for
from fewshot.config import BenchmarkConfig
from fewshot.devices import device_name
from fewshot.results.table import Cell
from fewshot.training.run import SECONDS


def gather_costs(folder: Path, config: BenchmarkConfig, cells: Iterable[Cell], device: torch.device) -> Path:
    """Write `costs.json`: one entry per target, row, seed and number of shots.

    Args:
        folder: of the run.
        config: of the benchmark.
        cells: all of them, evaluated.
        device: where they were.
    """
    costs = []
    for (target, method, seed, shot), group in groupby(sorted(cells), key=_row):
        of_row = list(group)
        found = [json.loads(cost_path(folder, cell).read_text()) for cell in of_row]
        n_queries = max(1, sum(cost["n_queries"] for cost in found))
        costs.append(
            Cost(
                target=target,
                method=method,
                seed=seed,
                shot=shot,
                adapt_seconds=sum(cost["adapt_seconds"] for cost in found) / len(found),
                image_seconds=sum(cost["image_seconds"] * cost["n_queries"] for cost in found) / n_queries,
                peak_bytes=max((cost["peak_bytes"] for cost in found if cost["peak_bytes"] is not None), default=None),
                parameters=found[0]["parameters"],
                training_seconds=_training_seconds(folder, config, of_row),
                device=device_name(device),
            )
        )
    return write_costs(folder, costs)


def _row(cell: Cell) -> tuple[Any, ...]:
    return cell.target, cell.method, cell.seed, cell.shot


def _training_seconds(folder: Path, config: BenchmarkConfig, cells: Sequence[Cell]) -> float | None:
    """Of all networks that the cells have, folds together; None where one was not trained here."""
    model = config.methods[cells[0].method].model
    if model is None:
        return None
    trainings = {training_for(config, model, cell.seed, cell.target, cell.fold) for cell in cells}
    seconds = [_read_seconds(folder, training) for training in trainings]
    return None if None in seconds else sum(second for second in seconds if second is not None)


def _read_seconds(folder: Path, training: Training | None) -> float | None:
    path = None if training is None else training.folder(folder) / SECONDS
    return float(json.loads(path.read_text())["seconds"]) if path is not None and path.is_file() else None
