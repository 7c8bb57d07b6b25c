"""What each row costs, averaged over training seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

from fewshot.benchmark.costs import Cost


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
