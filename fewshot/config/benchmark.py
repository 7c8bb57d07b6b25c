"""`fewshot benchmark`: models, methods, and what they are measured on."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fewshot.config.data import DataConfig
from fewshot.config.model import EncoderConfig, ModelConfig
from fewshot.config.strict import Count, Name, Strict, Whole, require_distinct, require_known
from fewshot.config.training import TrainingConfig


class BenchmarkModel(ModelConfig):
    """A model of a benchmark: trained there, read from a checkpoint, or left as its encoder's weights are."""

    train: TrainingConfig | None = None
    checkpoint: Path | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "BenchmarkModel":
        if self.train is not None and self.checkpoint is not None:
            raise ValueError("give `train` or `checkpoint`, not both")
        return self

    def network_only(self) -> ModelConfig:
        """The network's part alone."""
        return ModelConfig(**{key: getattr(self, key) for key in ModelConfig.model_fields})


Control = Literal["none", "emptied", "swapped"]


class MethodConfig(Strict):
    """A row of the table: a way of using a model on a support set; `options` are its further arguments.

    `control` asks whether the method reads the masks of its support set: `emptied` gives it masks without a lesion,
    `swapped` those of other images. A method whose score does not fall does not use its support set.
    """

    method: str
    model: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    control: Control = "none"


class BenchmarkConfig(DataConfig):
    """`fewshot benchmark`: every method on every target, by the support-draws protocol.

    Among the `shots`, 0 asks for every method without any annotated image; those that need a support set have no such
    row.
    """

    name: Name
    sources: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)
    shots: Annotated[tuple[Whole, ...], Field(min_length=1)] = (1, 5)
    draws: Count = 5
    draw_depth: Count = 10
    seed: Whole = 0
    training_seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)
    device: str = "auto"
    runs: Path = Path("runs")
    encoder: EncoderConfig = EncoderConfig()
    models: dict[Name, BenchmarkModel] = Field(default_factory=dict)
    methods: dict[Name, MethodConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_names(self) -> "BenchmarkConfig":
        require_known("sources", self.sources, self.datasets)
        require_known("targets", self.targets, self.datasets)
        for key in ("sources", "targets", "shots", "training_seeds"):
            require_distinct(key, getattr(self, key))
        both = set(self.sources) & set(self.targets)
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: a target must not be a source; hold it out of training")
        named = [method.model for method in self.methods.values() if method.model is not None]
        require_known("methods: model", named, self.models)
        if max(self.shots) > self.draw_depth:
            raise ValueError(f"shots: {max(self.shots)} is more than draw_depth, {self.draw_depth}")
        return self

    @model_validator(mode="after")
    def _controls_of_something(self) -> "BenchmarkConfig":
        controls = {row: method.control for row, method in self.methods.items() if method.control != "none"}
        if controls.keys() == self.methods.keys():
            raise ValueError("methods: all of them are controls; add what they control, with `control: none`")
        swapped = [row for row, control in controls.items() if control == "swapped"]
        if swapped and self.draw_depth < 2:
            raise ValueError(f"methods.{swapped[0]}.control: swapped masks need a draw_depth of at least 2")
        return self
