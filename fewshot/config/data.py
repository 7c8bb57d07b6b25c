"""Which datasets are read, and how."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from episodes.datasets import find_reader
from episodes.phantoms.scanners import scanner_named
from fewshot.config.strict import Count, Name, Strict, Whole, known_to


class PhantomConfig(Strict):
    """A phantom dataset that is generated where it is needed."""

    scanner: Annotated[str, known_to(scanner_named)]
    n_images: Count = 100
    seed: Whole = 0
    size: Annotated[int, Field(ge=64)] = 256


class DatasetConfig(Strict):
    """Where a dataset lies and how it is read: `root` with a reader, or a `phantom` to generate."""

    reader: Annotated[str, known_to(find_reader)] = "phantom"
    root: Path | None = None
    phantom: PhantomConfig | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "DatasetConfig":
        if (self.root is None) == (self.phantom is None):
            raise ValueError("give either `root`, the folder to read, or `phantom`, what to generate")
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
