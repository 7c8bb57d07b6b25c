"""The plan of a benchmark: its trainings, and the cells to evaluate."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fewshot.benchmark.tasks import TargetProtocol
from fewshot.config.benchmark import BenchmarkConfig
from fewshot.config.parsing import ConfigError
from fewshot.config.training import FoldConfig, TrainConfig
from fewshot.methods.contract import EncodingMethod, Method, needs_support
from fewshot.results.rows import Cell


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a benchmark: on the sources, for one target or all (None), or on a target but for one fold."""

    model: str
    seed: int
    target: str | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        """Return the name of its folder.

        >>> Training("unet", 0).name, Training("unet", 1, "busi", 2).name
        ('unet-seed0', 'unet-seed1-busi-fold2')
        """
        target = "" if self.target is None else f"-{self.target}"
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.model}-seed{self.seed}{target}{fold}"

    def folder(self, run: Path) -> Path:
        """Return its folder within a run's."""
        return run / "models" / self.name

    def checkpoint(self, run: Path) -> Path:
        """Return where its network is, once it is trained."""
        return self.folder(run) / "checkpoint.safetensors"

    def config(self, benchmark: BenchmarkConfig) -> TrainConfig:
        """Return the configuration that `fewshot train` would be given for it."""
        model = benchmark.models[self.model]
        assert model.train is not None  # noqa: S101 - only such models have trainings
        sources = benchmark.sources if self.target is None else benchmark.sources_of(self.target)
        fold = None
        if self.fold is not None:
            assert self.target is not None  # noqa: S101 - a fold is one of a target
            sources, fold = (self.target,), FoldConfig(index=self.fold, of=model.folds)
        return TrainConfig(
            name=self.name,
            data_root=benchmark.data_root,
            datasets=benchmark.datasets,
            image_size=benchmark.image_size,
            cache=benchmark.cache,
            sources=sources,
            test_fold=fold,
            seed=self.seed,
            device=benchmark.device,
            tracking=benchmark.tracking,
            encoder=benchmark.encoder,
            model=model.network_only(),
            train=model.train,
        )


def training_for(benchmark: BenchmarkConfig, model: str, seed: int, target: str, fold: int = -1) -> Training | None:
    """Return the training whose network segments a target's queries; None for a model that is not trained here.

    `fold` is the target's that the queries are in; -1 for a model that is trained on sources.
    """
    settings = benchmark.models[model]
    if settings.train is None:
        return None
    if settings.trained_on == "target":
        return Training(model, seed, target, fold)
    # Where targets are among the sources, models differ from target to target.
    holds_out = bool(set(benchmark.sources) & set(benchmark.targets))
    return Training(model, seed, target if holds_out else None)


def list_trainings(benchmark: BenchmarkConfig) -> list[Training]:
    """List all trainings, each once."""
    found = (
        training_for(benchmark, model, seed, target, fold)
        for model, settings in benchmark.models.items()
        for seed in benchmark.training_seeds
        for target in benchmark.targets
        for fold in settings.fold_numbers
    )
    return list(dict.fromkeys(training for training in found if training is not None))


def list_cells(
    config: BenchmarkConfig, methods: Mapping[str, Method], protocols: Mapping[str, TargetProtocol]
) -> list[Cell]:
    """List all cells; rows of one model follow each other.

    With K support images, a method has one cell for each draw or run. A method that uses no support set has one for
    each that differs without, and so has at K = 0 one that can do without; a control always has a support set. Of a
    model that is trained on the target, every cell is divided into the target's folds.

    Raises:
        ConfigError: if none of the numbers of shots is one that a row can be evaluated at.
    """
    shots = {row: _shots(config, row, method) for row, method in methods.items()}
    for row, possible in shots.items():
        if not possible:
            raise ConfigError(f"methods.{row}: it needs a support set; add a number of at least 1 to `shots`")
    return list(_cells(config, shots, protocols))


def group_cells(
    config: BenchmarkConfig, methods: Mapping[str, Method], cells: Iterable[Cell]
) -> list[tuple[Cell, ...]]:
    """Group the cells whose features are the same; a cell whose features are its own, or that has none, is alone.

    What takes longest comes first: many cells, then many support images.
    """
    groups: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        shares = isinstance(methods[cell.method], EncodingMethod)
        features = (cell.target, config.methods[cell.method].model, cell.seed, cell.fold)
        groups.setdefault(features if shares else (cell,), []).append(cell)
    return sorted(map(tuple, groups.values()), key=lambda group: (-len(group), -group[-1].shot))


def _shots(config: BenchmarkConfig, row: str, method: Method) -> list[int]:
    """Return the numbers of support images that a row is evaluated at."""
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
                model = config.methods[row].model
                if model is None and seed != config.training_seeds[0]:
                    continue  # a floor knows no training seed
                for fold in (-1,) if model is None else config.models[model].fold_numbers:
                    for shot in shots[row]:
                        draws = protocol.draws if shot else protocol.without_support
                        yield from (Cell(target, row, seed, shot, draw, fold) for draw in draws)
