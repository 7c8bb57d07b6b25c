"""Which networks a benchmark trains: models by seed, by target where sources differ, and by fold of a target."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fewshot.config import BenchmarkConfig, FoldConfig, TrainConfig


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a benchmark.

    Attributes:
        model: its name in the configuration.
        seed: of the training.
        target: that it is for; None where it serves all targets.
        fold: of the target, which it is trained on but for this fold; None where it is trained on sources.
    """

    model: str
    seed: int
    target: str | None = None
    fold: int | None = None

    @property
    def name(self) -> str:
        """What its folder is called.

        >>> Training("unet", 0).name, Training("unet", 1, "busi", 2).name
        ('unet-seed0', 'unet-seed1-busi-fold2')
        """
        target = "" if self.target is None else f"-{self.target}"
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.model}-seed{self.seed}{target}{fold}"

    def folder(self, run: Path) -> Path:
        """Where it lies in a run's folder."""
        return run / "models" / self.name

    def config(self, benchmark: BenchmarkConfig) -> TrainConfig:
        """The training as `fewshot train` would be given it."""
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
    """The training whose network segments a target's queries; None for a model that is not trained here.

    Args:
        benchmark: the configuration.
        model: its name.
        seed: of the training.
        target: dataset.
        fold: of the target that the queries are in; -1 for a model that is trained on sources.
    """
    settings = benchmark.models[model]
    if settings.train is None:
        return None
    if settings.trained_on == "target":
        return Training(model, seed, target, fold)
    return Training(model, seed, target if benchmark.holds_out else None)


def list_trainings(benchmark: BenchmarkConfig) -> Iterator[Training]:
    """All trainings, each once."""
    seen: set[Training] = set()
    for model, settings in benchmark.models.items():
        folds = range(settings.folds) if settings.trained_on == "target" else (-1,)
        for seed in benchmark.training_seeds:
            for target in benchmark.targets:
                for fold in folds:
                    training = training_for(benchmark, model, seed, target, fold)
                    if training is not None and training not in seen:
                        seen.add(training)
                        yield training
