"""What each row costs, averaged over training seeds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from pydantic import TypeAdapter

from episodes.errors import UserError, in_short
from episodes.io.files import write_text
from episodes.io.yaml_json import read_json

COSTS = "costs.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one row of the table costs with one training seed.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images; 0 for none.
        adapt_seconds: to adapt to one support set, mean over draws.
        image_seconds: to segment one image, its encoding included, mean over images and draws.
        peak_bytes: most memory held meanwhile, by the process or on the accelerator; None where it is not known.
        parameters: weights of the network; None for methods without one.
        training_seconds: of the model, on the device it was trained on; None where nothing was trained here.
        device: what it was measured on.
    """

    target: str
    method: str
    seed: int
    shot: int
    adapt_seconds: float
    image_seconds: float
    peak_bytes: int | None
    parameters: int | None
    training_seconds: float | None
    device: str


_COSTS = TypeAdapter(list[Cost])


def write_costs(folder: Path, costs: Sequence[Cost]) -> Path:
    """Write a run's costs.

    Returns:
        The file written.
    """
    path = folder / COSTS
    write_text(path, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    return path


def read_costs(folder: Path) -> list[Cost]:
    """A run's costs; none of a run that has no such file.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / COSTS
    if not path.is_file():
        return []
    try:
        return _COSTS.validate_python(read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({in_short(error)}); delete it, and run the benchmark again") from error


@dataclass(frozen=True, slots=True)
class MeanCost:
    """One row's cost, the mean over its training seeds; None where it is not known. Units as in `Cost`."""

    method: str
    shot: int
    adapt_seconds: float | None
    image_seconds: float | None
    peak_bytes: float | None
    parameters: float | None
    training_seconds: float | None
    n_seeds: int


def mean_costs(costs: Sequence[Cost]) -> list[MeanCost]:
    """Average over seeds, rows in the order of their shots and names."""

    def key(cost: Cost) -> tuple[int, str]:
        return cost.shot, cost.method

    groups = [(*row, list(group)) for row, group in groupby(sorted(costs, key=key), key)]
    return [
        MeanCost(
            method,
            shot,
            adapt_seconds=_mean(cost.adapt_seconds for cost in group),
            image_seconds=_mean(cost.image_seconds for cost in group),
            peak_bytes=_mean(cost.peak_bytes for cost in group),
            parameters=_mean(cost.parameters for cost in group),
            training_seconds=_mean(cost.training_seconds for cost in group),
            n_seeds=len(group),
        )
        for shot, method, group in groups
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
