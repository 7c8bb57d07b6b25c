"""A model, images of a scanner, and annotated ones, as `fewshot predict` is given them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import prepare_phantoms
from episodes.phantoms.population import PhantomSpec
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.predict.results import Summary
from fewshot.predict.run import PredictionRequest, predict_folder
from tests.fewshot.small_networks import ENCODER, MODELS, small_network
from tests.fewshot.tiny_runs import silent


def write_checkpoint(path: Path, name: str) -> Path:
    """A small network that was never trained."""
    facts = {
        "encoder": ENCODER.model_dump(mode="json"),
        "model": MODELS[name].model_dump(mode="json"),
        "image_size": 64,
    }
    save_checkpoint(path, network_tensors(small_network(name, seed=4)), facts)
    return path


@dataclass(frozen=True)
class Desk:
    """A user's folder with everything that a prediction needs.

    Attributes:
        folder: holds the others.
        panet: a checkpoint.
        images: seven images of several sizes.
        support: two annotated ones.
    """

    folder: Path
    panet: Path
    images: Path
    support: Path

    @property
    def request(self) -> PredictionRequest:
        return PredictionRequest(self.panet, str(self.images), self.support, device="cpu")

    def predict(self, out: str = "out", *, overwrite: bool = False, **changes: Any) -> Summary:
        request = replace(self.request, **changes)
        return predict_folder(request, self.folder / out, silent(), overwrite=overwrite)

    def files(self, out: str = "out") -> dict[str, bytes]:
        """All files of results by their names."""
        root = self.folder / out
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = prepare_phantoms(PhantomSpec("portable", 12, size=64), tmp_path / "phantoms")
    records = [record for record in read_dataset("phantom", root) if record.has_lesion]
    for place, record in enumerate(records[:2]):
        for folder, source in (("images", record.image), ("masks", record.masks[0])):
            path = tmp_path / "support" / folder / f"s{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
    for place, record in enumerate(records[2:9]):
        path = tmp_path / "scans" / ("first" if place < 3 else "second") / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(record.image) as image:
            image.resize((64 + 8 * (place % 3), 64 + 4 * (place % 2))).save(path)
    panet = write_checkpoint(tmp_path / "panet.safetensors", "panet")
    return Desk(tmp_path, panet, tmp_path / "scans", tmp_path / "support")
