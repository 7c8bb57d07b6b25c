"""A folder of pictures, some of which look alike, and an encoder that was never trained."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewshot.select import Describer
from tests.fewshot.made_stores import picture
from tests.fewshot.predict.conftest import write_checkpoint


@dataclass(frozen=True)
class Desk:
    """A user's folder.

    Attributes:
        folder: holds the others.
        scans: images.
        checkpoint: a model.
    """

    folder: Path
    scans: Path
    checkpoint: Path

    @property
    def describer(self) -> Describer:
        return Describer.of_checkpoint(self.checkpoint)

    def add(self, name: str, pixels: NDArray[np.uint8]) -> Path:
        path = self.scans / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    def describe_patients(self, text: str) -> None:
        (self.scans / "metadata.csv").write_text(text)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path, tmp_path / "scans", write_checkpoint(tmp_path / "panet.safetensors", "panet"))
    for number in range(6):
        desk.add(f"{'left' if number < 3 else 'right'}/{number}.png", picture(number))
    return desk
