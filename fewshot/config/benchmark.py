"""The configuration of benchmarks: models, methods, and what they are measured on."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from episodes.sampling.sampler import Class
from episodes.sampling.selection import By
from fewshot.config.data import DataConfig
from fewshot.config.parsing import Count, Name, Options, Strict, Whole, require_distinct, require_known
from fewshot.config.training import EncoderConfig, ModelConfig, TrackingConfig, TrainingConfig


class BenchmarkModel(ModelConfig):
    """A model of a benchmark: trained there, read from a checkpoint, or left as its encoder's weights are.

    `trained_on: target` trains on the target itself, by cross-validation over `folds` parts of its patients: each query
    is segmented by the model that has not seen its patient. Rows of such a model are oracles among others, and the
    within-dataset scenario where all models are such.
    """

    train: TrainingConfig | None = None
    checkpoint: Path | None = None
    trained_on: Literal["sources", "target"] = "sources"
    folds: Annotated[int, Field(ge=2, le=1_000)] = 5

    @model_validator(mode="after")
    def _one_origin(self) -> "BenchmarkModel":
        if self.train is not None and self.checkpoint is not None:
            raise ValueError("give `train` or `checkpoint`, not both")
        if self.trained_on == "target" and self.train is None:
            raise ValueError("trained_on: target needs `train`, which says how")
        return self

    @property
    def fold_numbers(self) -> range:
        """Return the number of each fold that a network of its own leaves out; -1 alone without folds."""
        return range(self.folds) if self.trained_on == "target" else range(-1, 0)

    def network_only(self) -> ModelConfig:
        """Return the network's part alone."""
        return ModelConfig(**{key: getattr(self, key) for key in ModelConfig.model_fields})


Control = Literal["none", "emptied", "swapped"]
SupportChoice = Literal["drawn", "selected"]


class MethodConfig(Strict):
    """A row of the table: a way of using a model on a support set; `options` are its further arguments.

    `control` asks whether the method reads the masks of its support set: `emptied` gives it masks without a lesion,
    `swapped` those of other images. A method whose score does not fall does not use its support set.

    `support` says which of a draw's `draw_depth` support images the K are: its first K, as they were `drawn`; or those
    `selected` by the encoder of the row's model, as `fewshot select` does, by `select_by` (k-medoids unless given). The
    queries are the same for both.
    """

    method: str
    model: str | None = None
    options: Options = Field(default_factory=dict)
    control: Control = "none"
    support: SupportChoice = "drawn"
    select_by: By | None = None

    @model_validator(mode="after")
    def _something_to_select_by(self) -> "MethodConfig":
        if self.support == "selected" and self.model is None:
            raise ValueError("support: selected needs a `model`, whose encoder says what images look like")
        if self.support == "drawn" and self.select_by is not None:
            raise ValueError("select_by: is for support: selected; set that, or leave it out")
        return self


class ClassicConfig(Strict):
    """The protocol of papers: so many `runs` of so many random `episodes`, each asking for one of the `classes`.

    A method adapts anew in every episode. An episode has the largest number of support images; fewer are its first.
    """

    episodes: Count = 1000
    runs: Count = 5
    n_query: Count = 1
    classes: Annotated[tuple[Class, ...], Field(min_length=1)] = ("lesion",)


class BenchmarkConfig(DataConfig):
    """`fewshot benchmark`: every method on every target.

    Models are trained on the `sources`, of which a target is left out for its own rows (leave one dataset out). Support
    images are drawn from the target, or from another dataset, `support_from` (cross-support). Among the `shots`, 0 asks
    for every method without any annotated image; those that need a support set have no such row.

    A target's encoded features are held in memory, on the device, up to `feature_memory_gib`; more are kept in the
    cache, on disk, with the same results.

    Trainings and cells are computed by so many `processes` side by side, with the same results; `auto` takes as many as
    cores that may be used and memory allow, and one on a GPU.
    """

    name: Name
    protocol: Literal["support-draws", "classic"] = "support-draws"
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = Field(min_length=1)
    support_from: str | None = None
    shots: Annotated[tuple[Whole, ...], Field(min_length=1)] = (1, 5)
    draws: Count = 5
    draw_depth: Count = 10
    classic: ClassicConfig = ClassicConfig()
    seed: Whole = 0
    training_seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)
    device: str = "auto"
    processes: Literal["auto"] | Annotated[Count, Field(le=1_000)] = "auto"
    feature_memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    runs: Path = Path("runs")
    tracking: TrackingConfig = TrackingConfig()
    encoder: EncoderConfig = EncoderConfig()
    models: dict[Name, BenchmarkModel] = Field(default_factory=dict)
    methods: dict[Name, MethodConfig] = Field(min_length=1)

    def sources_of(self, target: str) -> tuple[str, ...]:
        """Return the datasets that models may be trained on whose target this is."""
        return tuple(source for source in self.sources if source != target)

    @model_validator(mode="after")
    def _known_names(self) -> "BenchmarkConfig":
        require_known("sources", self.sources, self.datasets)
        require_known("targets", self.targets, self.datasets)
        for key in ("sources", "targets", "shots", "training_seeds"):
            require_distinct(key, getattr(self, key))
        named = [method.model for method in self.methods.values() if method.model is not None]
        require_known("methods: model", named, self.models)
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "BenchmarkConfig":
        trained = [name for name, model in self.models.items() if model.train and model.trained_on == "sources"]
        for target in self.targets:
            if trained and not self.sources_of(target):
                raise ValueError(
                    f"sources: none is left to train {trained[0]} for {target}, which must not be one itself; add"
                    " another dataset, or set the model's trained_on to target"
                )
        return self

    @model_validator(mode="after")
    def _enough_support(self) -> "BenchmarkConfig":
        swapped = [row for row, method in self.methods.items() if method.control == "swapped"]
        if self.protocol == "classic":
            key, depth = "shots", max(self.shots)
            if self.support_from is not None:
                raise ValueError("support_from: is for the protocol support-draws; leave it out")
        else:
            key, depth = "draw_depth", self.draw_depth
            if max(self.shots) > depth:
                raise ValueError(f"shots: {max(self.shots)} is more than draw_depth, {depth}")
        if swapped and depth < 2:
            raise ValueError(f"methods.{swapped[0]}.control: swapped masks need a {key} of at least 2")
        if self.support_from is not None:
            require_known("support_from", [self.support_from], self.datasets)
            if self.support_from in self.targets:
                raise ValueError(
                    f"support_from: {self.support_from} is a target; leave it out, or name another dataset"
                )
        selected = [row for row, method in self.methods.items() if method.support == "selected"]
        if selected and self.protocol == "classic":
            raise ValueError(f"methods.{selected[0]}.support: selected is for the protocol support-draws")
        fewest = min((shot for shot in self.shots if shot), default=0)
        if selected and self.draw_depth <= fewest:
            raise ValueError(
                f"methods.{selected[0]}.support: of {self.draw_depth} images none is left out at {fewest} shots; raise"
                " draw_depth"
            )
        return self

    @model_validator(mode="after")
    def _controls_of_something(self) -> "BenchmarkConfig":
        if all(method.control != "none" for method in self.methods.values()):
            raise ValueError("methods: all of them are controls; add what they control, with `control: none`")
        return self
