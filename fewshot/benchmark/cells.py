"""Which cells a benchmark consists of."""

from collections.abc import Iterator, Mapping

from fewshot.benchmark.tasks import TargetProtocol
from fewshot.config import BenchmarkConfig
from fewshot.methods.contract import Method, needs_support
from fewshot.parsing import ConfigError
from fewshot.results.table import Cell


def list_cells(
    config: BenchmarkConfig, methods: Mapping[str, Method], protocols: Mapping[str, TargetProtocol]
) -> list[Cell]:
    """All cells; rows of one model follow each other, so that its features are computed once.

    With K support images, a method has one cell for each draw or run. A method that uses no support set has one for
    each that differs without, and so has at K = 0 one that can do without; a control always has a support set. Of a
    model that is trained on the target, every cell is divided into the target's folds.

    Args:
        config: the benchmark.
        methods: those of its rows, built.
        protocols: by target.

    Raises:
        ConfigError: if none of the numbers of shots is one that a row can be evaluated at.
    """
    shots = {row: _shots(config, row, method) for row, method in methods.items()}
    for row, possible in shots.items():
        if not possible:
            raise ConfigError(f"methods.{row}: it needs a support set; add a number of at least 1 to `shots`")
    return list(_cells(config, shots, protocols))


def _shots(config: BenchmarkConfig, row: str, method: Method) -> list[int]:
    """The numbers of support images that a row is evaluated at."""
    if not method.uses_support:
        return [0]
    without = config.methods[row].control == "none" and not needs_support(method)
    return [shot for shot in config.shots if shot > 0 or without]


def _cells(
    config: BenchmarkConfig, shots: Mapping[str, list[int]], protocols: Mapping[str, TargetProtocol]
) -> Iterator[Cell]:
    rows = sorted(config.methods, key=lambda row: config.methods[row].model or "")
    for target, protocol in protocols.items():
        for seed in config.training_seeds:
            for row in rows:
                if config.methods[row].model is None and seed != config.training_seeds[0]:
                    continue  # a floor knows no training seed
                for fold in _folds(config, row):
                    for shot in shots[row]:
                        draws = protocol.draws if shot else protocol.without_support
                        yield from (Cell(target, row, seed, shot, draw, fold) for draw in draws)


def _folds(config: BenchmarkConfig, row: str) -> range:
    model = config.methods[row].model
    settings = None if model is None else config.models[model]
    return range(settings.folds) if settings is not None and settings.trained_on == "target" else range(-1, 0)
