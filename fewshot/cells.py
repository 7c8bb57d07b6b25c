"""Which cells a benchmark consists of."""

from collections.abc import Iterator, Mapping

from fewshot.config import BenchmarkConfig
from fewshot.methods import Method, needs_support
from fewshot.parsing import ConfigError
from fewshot.results import Cell


def list_cells(config: BenchmarkConfig, methods: Mapping[str, Method]) -> list[Cell]:
    """All cells; rows of one model follow each other, so that its features are computed once.

    A method that uses no support set has one cell per target and seed, and so has at K = 0 one that can do without;
    with K support images it has one per draw. A control always has a support set.

    Args:
        config: the benchmark.
        methods: those of its rows, built.

    Raises:
        ConfigError: if none of the numbers of shots is one that a row can be evaluated at.
    """
    shots = {row: _shots(config, row, method) for row, method in methods.items()}
    for row, possible in shots.items():
        if not possible:
            raise ConfigError(f"methods.{row}: it needs a support set; add a number of at least 1 to `shots`")
    return list(_cells(config, shots))


def _shots(config: BenchmarkConfig, row: str, method: Method) -> list[int]:
    """The numbers of support images that a row is evaluated at."""
    if not method.uses_support:
        return [0]
    without = config.methods[row].control == "none" and not needs_support(method)
    return [shot for shot in config.shots if shot > 0 or without]


def _cells(config: BenchmarkConfig, shots: Mapping[str, list[int]]) -> Iterator[Cell]:
    rows = sorted(config.methods, key=lambda row: config.methods[row].model or "")
    for target in config.targets:
        for seed in config.training_seeds:
            for row in rows:
                if config.methods[row].model is None and seed != config.training_seeds[0]:
                    continue  # a floor knows no training seed
                for shot in shots[row]:
                    draws = range(config.draws) if shot else (-1,)
                    yield from (Cell(target, row, seed, shot, draw) for draw in draws)
