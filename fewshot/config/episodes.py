"""The episodes of a training, and `fewshot episodes sample`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, model_validator

from fewshot.config.data import DataConfig
from fewshot.config.strict import Count, Strict, Whole


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


class EpisodesConfig(Strict):
    """The training episodes of a few-shot model.

    `n_shot` is one number or several, of which each training step takes one at random; a single one is written as a
    number.
    """

    n_shot: Shots = (1,)
    n_query: Count = 1
    classes: tuple[tuple[Literal["lesion", "benign", "malignant"], ...], ...] = (("lesion",),)
    pairing: Literal["within", "across"] = "within"


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
