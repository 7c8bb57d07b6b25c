"""The configuration of networks and their training."""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from episodes.augment.transforms import Strength
from episodes.records import LABELS, Label
from fewshot.config.data import DataConfig, EpisodesConfig
from fewshot.config.parsing import Count, Name, Options, Strict, Whole, require_distinct, require_known

# A ResNet has 5, the plain encoder one for each time that its channels double.
Level = Annotated[int, Field(ge=0, lt=16)]


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
    options: Options = Field(default_factory=dict)

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
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (3,)
    output_stride: Literal[8, 16, 32] = 32
    pyramid: Annotated[int, Field(ge=0, le=65_536, multiple_of=8)] = 0
    options: Options = Field(default_factory=dict)

    @property
    def own_modules(self) -> tuple[str, ...]:
        """Return the module of a network `module:Class`, which whoever names it trusts; none of a registered one."""
        return (self.network.partition(":")[0],) if ":" in self.network else ()


class TrackingConfig(Strict):
    """The places of results beside the files of the run's folder, and the names that they show to others.

    `to: wandb` logs to Weights & Biases as well. Patients and image files bear pseudonyms there and in the report, and
    paths are left out; `identities: keep` shows them as they are called.
    """

    to: Literal["local", "wandb"] = "local"
    identities: Literal["pseudonyms", "keep"] = "pseudonyms"

    @property
    def keeps_names(self) -> bool:
        """Tell whether patients, files and paths are shown as they are called."""
        return self.identities == "keep"


class ValidationConfig(Strict):
    """Validation: the weights with the lowest loss on held-out patients are kept; training may stop where it stays.

    `share` is that of the sources' images, whole patients at a time, where no `split` names them; `every` the steps
    between validations; `episodes` how many a few-shot model is validated on (others see every held-out image);
    `patience` the validations without a new lowest loss after which training stops, and `null` trains to the end.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    every: Count = 100
    episodes: Count = 64
    patience: Count | None = None


class TrainingConfig(Strict):
    """The training of a model: for a number of `steps`, of `batch_size` episodes or images, or of `epochs` of images.

    `optimizer: adam` adds weight decay to the gradient, `adamw` takes it from the weights; `final_rate` is the learning
    rate that the cosine ends at. `labels` trains on images of those labels alone; `balance: labels` shows each label
    equally often, and `label_augmentation` changes images of some labels in another way than the rest.
    `scanner: random` shows each episode, or each image of a supervised model, as a random scanner of its own would.
    `clip_norm` bounds the gradient's norm; `average_decay` keeps an exponential moving average of the weights in
    their place; `channels_last` orders memory so that most convolutions are faster, and rounding differs; of what
    `precision` (float32 or bfloat16) or `channels_last` leaves to `auto`, the fastest is measured on the machine.
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
    balance: Literal["none", "labels"] = "none"
    augmentation: Strength = "light"
    label_augmentation: dict[Label, Strength] = Field(default_factory=dict)
    scanner: Literal["recorded", "random"] = "recorded"
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    channels_last: bool | Literal["auto"] = False
    validation: ValidationConfig | None = None
    workers: Whole = 0
    save_every: Count = 200
    episodes: EpisodesConfig = EpisodesConfig()

    @property
    def n_steps(self) -> int:
        """Return the number of steps, which must be known by now: `in_steps` makes it of a number of epochs."""
        if self.steps is None:
            raise ValueError("the number of steps depends on that of images; see in_steps")
        return self.steps

    def in_steps(self, n_images: int, n_processes: int = 1) -> "TrainingConfig":
        """Count the same training in steps, each of a batch per process: enough for every epoch to be whole.

        >>> TrainingConfig(epochs=3, batch_size=8).in_steps(100).n_steps
        38
        """
        if self.epochs is None:
            return self
        steps = -(-self.epochs * n_images // (self.batch_size * n_processes))
        return self.model_copy(update={"steps": steps, "epochs": None})

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either `steps` or `epochs`")
        if self.final_rate > self.learning_rate:
            raise ValueError(f"final_rate: {self.final_rate:g} is more than learning_rate, {self.learning_rate:g}")
        if len({len(ways) for ways in self.episodes.classes}) > 1:
            raise ValueError("episodes.classes: a batch needs episodes of equally many ways; give tuples of one length")
        return self


class FoldConfig(Strict):
    """One of the parts that cross-validation divides the sources into: fold `index`, from 0, `of` so many."""

    index: Whole
    of: Annotated[int, Field(ge=2, le=1_000)]

    @model_validator(mode="after")
    def _one_of_them(self) -> "FoldConfig":
        if self.index >= self.of:
            raise ValueError(f"index: there is no fold {self.index} of {self.of}; they are 0 to {self.of - 1}")
        return self


class TrainConfig(DataConfig):
    """`fewshot train`: one model on the source datasets.

    `test_share` is that of the sources' images, whole patients at a time, which training never sees: `fewshot evaluate`
    is for them. `test_fold` keeps one of several equal parts instead. Both depend on `split_seed`, not on the
    training's `seed`. `split` names a file that `fewshot data split` wrote: its part `train` is trained on, `val`
    validated on where `train.validation` is there (without such a part, its `share` of `train`), and `test` kept.
    """

    name: Name
    sources: tuple[str, ...] = Field(min_length=1)
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    test_fold: FoldConfig | None = None
    split: Path | None = None
    split_seed: Whole = 0
    seed: Whole = 0
    device: str = "auto"
    runs: Path = Path("runs")
    tracking: TrackingConfig = TrackingConfig()
    encoder: EncoderConfig = EncoderConfig()
    model: ModelConfig = ModelConfig()
    train: TrainingConfig

    @model_validator(mode="after")
    def _known_names(self) -> "TrainConfig":
        require_known("sources", self.sources, self.datasets)
        require_distinct("sources", self.sources)
        given = [key for key in ("test_share", "test_fold", "split") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"give either `{given[0]}` or `{given[1]}`")
        validation = 0.0 if self.train.validation is None else self.train.validation.share
        if self.test_share + validation >= 1:
            raise ValueError(
                f"test_share and train.validation.share: {self.test_share + validation:g} leaves no images"
            )
        return self


def rate_factor(step: int, config: TrainingConfig) -> float:
    """Return a step's learning rate as a share of the highest: linear warm-up, then cosine to the final rate.

    >>> config = TrainingConfig(steps=100, warmup_steps=10)
    >>> [round(rate_factor(step, config), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    warmup = min(config.warmup_steps, config.n_steps - 1)
    if step < warmup:
        return (step + 1) / warmup
    final = config.final_rate / config.learning_rate
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (config.n_steps - warmup)))
