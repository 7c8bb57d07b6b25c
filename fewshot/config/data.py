"""The configuration of data: datasets, their curation, episodes."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints, model_validator

from episodes.curation.policy import Corrections, Doppler, Duplicates, Relabel, Rename
from episodes.datasets import find_reader
from episodes.records import Label
from fewshot.config.parsing import LARGEST_IMAGE, Count, Name, Side, Strict, Whole, known_to

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class RelabelConfig(Strict):
    """Another label for an image, and why."""

    label: Label
    reason: Reason


class RenameConfig(Strict):
    """Another name for a patient, and why; that of another patient makes one of both."""

    to: Text
    reason: Reason


class CorrectionsConfig(Strict):
    """The known mistakes of a dataset, and the reason for each of the corrections.

    `dataset` is the name of its reader, or the one that it has in the configuration. Images are named by id or by file
    name, with or without suffix; patients as the dataset's reader names them.
    """

    version: Literal[1]
    dataset: Name
    exclude: dict[Text, Reason] = Field(default_factory=dict)
    relabel: dict[Text, RelabelConfig] = Field(default_factory=dict)
    rename_patients: dict[Text, RenameConfig] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_correction_each(self) -> "CorrectionsConfig":
        if both := self.exclude.keys() & self.relabel.keys():
            raise ValueError(f"{min(both)}: is under `exclude` and under `relabel`; keep one of the two")
        return self

    def corrections(self, file: str) -> Corrections:
        """Convert to the corrections that a policy follows; `file` names them in messages."""
        return Corrections(
            file,
            dict(self.exclude),
            {name: Relabel(one.label, one.reason) for name, one in self.relabel.items()},
            {name: Rename(one.to, one.reason) for name, one in self.rename_patients.items()},
        )


def _find_scanner(name: str) -> None:
    from episodes.phantoms.imaging import scanner_named  # a quarter of a second, for configurations with phantoms alone

    scanner_named(name)


class PhantomConfig(Strict):
    """A phantom dataset that is generated where it is needed."""

    scanner: Annotated[str, known_to(_find_scanner)]
    n_images: Count = 100
    seed: Whole = 0
    size: Annotated[int, Field(ge=64, le=LARGEST_IMAGE)] = 256


class CurationConfig(Strict):
    """The choice of a dataset's images, in the order `corrections`, `curated`, `doppler`, `duplicates`.

    `corrections` is a YAML file of known mistakes (configs/curation/ has some), `curated` a text file of the only
    images to use; relative paths lie in `data_root`. `doppler: drop` leaves out the images that the dataset says to
    have a Doppler overlay. `duplicates` says of near-duplicates: `group` keeps them, as images of one patient,
    `keep-first` one of each group, `drop-all` none; and none is ever kept where their labels contradict each other.
    """

    duplicates: Duplicates = "group"
    doppler: Doppler = "keep"
    curated: Path | None = None
    corrections: Path | None = None


class DatasetConfig(Strict):
    """A dataset: a `root` folder with a reader, or a `phantom` to generate.

    `invert` says that its masks have a light ground and dark lesions.
    """

    reader: Annotated[str, known_to(find_reader)] = "phantom"
    root: Path | None = None
    phantom: PhantomConfig | None = None
    invert: bool = False
    curation: CurationConfig = CurationConfig()

    @model_validator(mode="after")
    def _one_origin(self) -> "DatasetConfig":
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either `root`, the folder to read, or `phantom`, what to generate")
        return self


class DataConfig(Strict):
    """The part that all configurations of commands which read images have in common."""

    data_root: Path = Path()
    datasets: dict[Name, DatasetConfig]
    image_size: Side = 256
    cache: Path | None = None

    def root(self, name: str) -> Path | None:
        """Return the folder of a dataset; a relative one lies in `data_root`."""
        root = self.datasets[name].root
        return None if root is None else self.data_root / root


def _some_distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values:
        raise ValueError("give at least one number")
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} is given twice")
    return values


Shots = Annotated[
    tuple[Count, ...],
    BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,)),
    AfterValidator(_some_distinct),
    PlainSerializer(lambda values: values[0] if len(values) == 1 else values),
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
