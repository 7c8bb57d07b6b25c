"""Which datasets are read, and how."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from episodes.datasets import find_reader
from episodes.phantoms.scanners import scanner_named
from episodes.policies import Doppler, Duplicates
from fewshot.config.strict import LARGEST_IMAGE, Count, Name, Side, Strict, Whole, known_to


class PhantomConfig(Strict):
    """A phantom dataset that is generated where it is needed."""

    scanner: Annotated[str, known_to(scanner_named)]
    n_images: Count = 100
    seed: Whole = 0
    size: Annotated[int, Field(ge=64, le=LARGEST_IMAGE)] = 256


class CurationConfig(Strict):
    """What of a dataset is used, and as what; in the order `corrections`, `curated`, `doppler`, `duplicates`.

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
    """Where a dataset lies and how it is read: `root` with a reader, or a `phantom` to generate."""

    reader: Annotated[str, known_to(find_reader)] = "phantom"
    root: Path | None = None
    phantom: PhantomConfig | None = None
    curation: CurationConfig = CurationConfig()

    @model_validator(mode="after")
    def _one_origin(self) -> "DatasetConfig":
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either `root`, the folder to read, or `phantom`, what to generate")
        return self


class DataConfig(Strict):
    """What every command that reads images needs."""

    data_root: Path = Path()
    datasets: dict[Name, DatasetConfig]
    image_size: Side = 256
    cache: Path | None = None

    def root(self, name: str) -> Path | None:
        """The folder of a dataset; a relative one lies in `data_root`."""
        root = self.datasets[name].root
        return None if root is None else self.data_root / root
