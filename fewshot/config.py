"""What can be configured: frozen, strict schemas, each key with its type, default and range."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from episodes.datasets import find_reader
from episodes.errors import UserError
from episodes.phantoms.scanners import scanner_named
from episodes.records import LABELS, Label
from episodes.transforms import Strength


class Strict(BaseModel):
    """Base of all configurations: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+ -]*$")]


def _known_to(find: Callable[[str], object]) -> AfterValidator:
    """Accept the names that `find` finds; its error says which there are."""

    def check(name: str) -> str:
        try:
            find(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name

    return AfterValidator(check)


def _several(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _some_distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values:
        raise ValueError("give at least one number")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} is given twice")
    return values


def _one_or_several(values: tuple[int, ...]) -> int | tuple[int, ...]:
    return values[0] if len(values) == 1 else values


Shots = Annotated[
    tuple[Count, ...],
    BeforeValidator(_several),
    AfterValidator(_some_distinct),
    PlainSerializer(_one_or_several),
]


class PhantomConfig(Strict):
    """A phantom dataset that is generated where it is needed."""

    scanner: Annotated[str, _known_to(scanner_named)]
    n_images: Count = 100
    seed: Whole = 0
    size: Annotated[int, Field(ge=64)] = 256


class DatasetConfig(Strict):
    """Where a dataset lies and how it is read: `root` with a reader, or a `phantom` to generate."""

    reader: Annotated[str, _known_to(find_reader)] = "phantom"
    root: Path | None = None
    phantom: PhantomConfig | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "DatasetConfig":
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either `root`, the folder to read, or `phantom`, what to generate")
        return self


class EncoderConfig(Strict):
    """The timm network under every model.

    `freeze_norm` keeps batch norms as loaded, `frozen` that many of the shallowest levels, counted as `levels` are.
    The name `plain` is not timm's: it stands for the published U-Net's own encoder, whose `options` are its `width` and
    `norm`.
    """

    name: str = "resnet18"
    weights: str = "none"
    freeze_norm: bool = False
    frozen: Whole = 0
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _weights_to_keep(self) -> "EncoderConfig":
        if self.freeze_norm and self.weights == "none":
            raise ValueError("freeze_norm: random weights have no batch-norm statistics worth keeping; set it to false")
        if self.frozen and self.weights == "none":
            raise ValueError("frozen: random weights are not worth keeping; set it to 0")
        if self.name == "plain" and self.weights != "none":
            raise ValueError("weights: the plain encoder is trained from random weights; set it to none")
        if self.name != "plain" and self.options:
            raise ValueError("options: those are of the plain encoder; remove them, or set name to plain")
        return self


class ModelConfig(Strict):
    """A network and which encoder levels it reads; `options` are its constructor's further arguments.

    `pyramid` puts path aggregation with that many channels between the encoder and the network; 0 for none.
    """

    network: str = "panet"
    levels: Annotated[tuple[Whole, ...], Field(min_length=1)] = (3,)
    output_stride: Literal[8, 16, 32] = 32
    pyramid: Annotated[int, Field(ge=0, multiple_of=8)] = 0
    options: dict[str, Any] = {}


class EpisodesConfig(Strict):
    """The training episodes of a few-shot model.

    `n_shot` is one number or several, of which each training step takes one at random; a single one is written as a
    number.
    """

    n_shot: Shots = (1,)
    n_query: Count = 1
    classes: tuple[tuple[Literal["lesion", "benign", "malignant"], ...], ...] = (("lesion",),)
    pairing: Literal["within", "across"] = "within"


class ValidationConfig(Strict):
    """Keep the weights with the lowest loss on held-out patients, and stop early where it no longer falls.

    `share` is that of the sources' images, whole patients at a time; `every` the steps between validations;
    `episodes` how many a few-shot model is validated on (others see every held-out image); `patience` the validations
    without a new lowest loss after which training stops, and `null` trains to the end.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    every: Count = 100
    episodes: Count = 64
    patience: Count | None = None


class TrainingConfig(Strict):
    """How a model is trained: for a number of `steps`, of `batch_size` episodes or images, or of `epochs` of images.

    `optimizer: adam` adds weight decay to the gradient, `adamw` takes it from the weights; `final_rate` is the learning
    rate that the cosine ends at. `labels` trains on images of those labels alone; `duplicates: dropped` on one of every
    group of near-duplicates; `balance: labels` shows each label equally often, and `label_augmentation` changes images
    of some labels in another way than the rest.
    `scanner: random` shows each episode, or each image of a supervised model, as a random scanner of its own would.
    `clip_norm` bounds the gradient's norm; `average_decay` keeps an exponential moving average of the weights in
    their place; `precision: auto` is bfloat16 where the device computes in it, else float32; `channels_last` orders
    memory so that convolutions are faster, mostly in bfloat16, and rounding differs.
    """

    steps: Count | None = None
    epochs: Count | None = None
    batch_size: Count = 4
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    final_rate: Annotated[float, Field(ge=0)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    warmup_steps: Whole = 20
    labels: Annotated[tuple[Label, ...], Field(min_length=1)] = LABELS
    duplicates: Literal["kept", "dropped"] = "kept"
    balance: Literal["none", "labels"] = "none"
    augmentation: Strength = "light"
    label_augmentation: dict[Label, Strength] = {}
    scanner: Literal["recorded", "random"] = "recorded"
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    validation: ValidationConfig | None = None
    workers: Whole = 0
    save_every: Count = 200
    episodes: EpisodesConfig = EpisodesConfig()

    @property
    def n_steps(self) -> int:
        """The number of steps, which must be known by now: `in_steps` makes it of a number of epochs."""
        if self.steps is None:
            raise ValueError("the number of steps depends on that of images; see in_steps")
        return self.steps

    def in_steps(self, n_images: int, n_processes: int = 1) -> "TrainingConfig":
        """The same training in steps, each of a batch per process: enough for every epoch to be whole.

        >>> TrainingConfig(epochs=3, batch_size=8).in_steps(100).n_steps
        38
        """
        if self.epochs is None:
            return self
        steps = -(-self.epochs * n_images // (self.batch_size * n_processes))
        return self.model_copy(update={"steps": steps, "epochs": None})

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        if self.final_rate > self.learning_rate:
            raise ValueError(f"final_rate: {self.final_rate:g} is more than learning_rate, {self.learning_rate:g}")
        return self

    @model_validator(mode="after")
    def _equal_shapes(self) -> "TrainingConfig":
        if len({len(ways) for ways in self.episodes.classes}) > 1:
            raise ValueError("episodes.classes: a batch needs episodes of equally many ways; give tuples of one length")
        return self


class DataConfig(Strict):
    """What every command that reads images needs."""

    data_root: Path = Path()
    datasets: dict[Name, DatasetConfig]
    image_size: Annotated[int, Field(ge=32)] = 256
    cache: Path | None = None

    def root(self, name: str) -> Path | None:
        """The folder of a dataset; a relative one lies in `data_root`."""
        root = self.datasets[name].root
        return None if root is None else self.data_root / root


class SampleConfig(DataConfig):
    """`fewshot episodes sample`: tasks over the configured datasets."""

    episodes: EpisodesConfig = EpisodesConfig()
    seed: Whole = 0

    @model_validator(mode="after")
    def _one_number_of_shots(self) -> "SampleConfig":
        if len(self.episodes.n_shot) > 1:
            several = ", ".join(map(str, self.episodes.n_shot))
            raise ValueError(f"episodes.n_shot: {several} is for training, whose steps choose; give one number here")
        return self


class TrainConfig(DataConfig):
    """`fewshot train`: one model on the source datasets.

    `test_share` is that of the sources' images, whole patients at a time, which training never sees: `fewshot evaluate`
    is for them. They depend on `split_seed`, not on the training's `seed`.
    """

    name: Name
    sources: tuple[str, ...] = Field(min_length=1)
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    split_seed: Whole = 0
    seed: Whole = 0
    device: str = "auto"
    runs: Path = Path("runs")
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    train: TrainingConfig

    @model_validator(mode="after")
    def _known_names(self) -> "TrainConfig":
        _require_known("sources", self.sources, self.datasets)
        _require_distinct("sources", self.sources)
        validation = 0.0 if self.train.validation is None else self.train.validation.share
        if self.test_share + validation >= 1:
            raise ValueError(
                f"test_share and train.validation.share: {self.test_share + validation:g} leaves no images"
            )
        return self


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
    options: dict[str, Any] = {}
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
    models: dict[Name, BenchmarkModel] = {}
    methods: dict[Name, MethodConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _known_names(self) -> "BenchmarkConfig":
        _require_known("sources", self.sources, self.datasets)
        _require_known("targets", self.targets, self.datasets)
        for key in ("sources", "targets", "shots", "training_seeds"):
            _require_distinct(key, getattr(self, key))
        both = set(self.sources) & set(self.targets)
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: a target must not be a source; hold it out of training")
        named = [method.model for method in self.methods.values() if method.model is not None]
        _require_known("methods: model", named, self.models)
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


def _require_known(key: str, names: Sequence[str], known: Mapping[str, object]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not among {', '.join(known) or 'none'}")


def _require_distinct(key: str, values: Sequence[object]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{key}: {value!r} is given twice")
