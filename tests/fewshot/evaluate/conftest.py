"""Untrained checkpoints, and one evaluation of each kind, which many tests look at."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.evaluate import run as run_module
from fewshot.evaluate.run import EvaluationRequest, evaluate_checkpoints
from fewshot.evaluate.scores import Assessment
from fewshot.inference.support import record_hashes
from fewshot.training.run import training_facts
from tests.fewshot.small_networks import small_network, train_config
from tests.fewshot.tiny_runs import silent

N_IMAGES = 14
UNKNOWN = "linear_0003"
"""A malignant image whose label is taken away."""


@dataclass(frozen=True)
class Judged:
    """An evaluation's folder and what it holds."""

    folder: Path
    assessment: Assessment

    @property
    def numbers(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "evaluation.json").read_text())
        return found

    @property
    def images(self) -> list[dict[str, str]]:
        with (self.folder / "images.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def mask(self, record_id: str) -> NDArray[np.bool_]:
        return np.asarray(Image.open(self.folder / "masks" / f"{record_id.split('/')[1]}.png")) > 0


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of all labels in a folder; one malignant image's kind is unknown."""
    root = tmp_path_factory.mktemp("data") / "clinic"
    write_folder(generate(PhantomSpec("linear", N_IMAGES, size=64)), root)
    table = root / "metadata.csv"
    lines = table.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith(UNKNOWN))
    assert "malignant" in lines[place]
    lines[place] = lines[place].replace("malignant", "unknown")
    table.write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="session")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """What a test reads of the data by itself, at the working size of the checkpoints."""
    return prepare_store(read_dataset("folder", data), tmp_path_factory.mktemp("stores"), (64, 64))


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache(data_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(data_cache))


def write_checkpoint(path: Path, name: str, *, seed: int = 0, **facts: Any) -> Path:
    """An untrained network as if it had been trained on a dataset of another name; keywords replace facts."""
    known = training_facts(train_config(name)) | {
        "precision": "float32",
        "kept_step": 1,
        "seen_images": [],
        "test_images": [],
    }
    save_checkpoint(path, network_tensors(small_network(name, seed)), known | facts)
    return path


def trained_on(store: Store, test_ids: list[str], reader: str = "folder") -> dict[str, Any]:
    """The facts of a training on the data, but for a test part."""
    hashes = record_hashes([store])
    return {
        "sources": ["ours"],
        "datasets": {"ours": {"reader": reader}},
        "seen_images": [name for record_id, name in hashes.items() if record_id not in test_ids],
        "test_images": [hashes[record_id] for record_id in test_ids],
    }


Evaluate = Callable[..., Judged]


@pytest.fixture
def evaluate(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Judge checkpoints on the data, into a folder of the test; keywords are the request's.

    Figures, which take most of the time, are drawn where a test looks at them.
    """

    def run(
        *checkpoints: Path, out: str = "judged", overwrite: bool = False, figures: bool = False, **changes: Any
    ) -> Judged:
        request, folder = replace(EvaluationRequest(checkpoints, data, "folder"), **changes), tmp_path / out
        with monkeypatch.context() as patch:
            for name in () if figures else ("write_figures", "write_cases"):
                patch.setattr(run_module, name, lambda *_: None)
            return Judged(folder, evaluate_checkpoints(request, folder, silent(), overwrite=overwrite))

    return run


def judged_once(name: str, data: Path, factory: pytest.TempPathFactory, cache: Path, **changes: Any) -> Judged:
    folder = factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        request = replace(
            EvaluationRequest([write_checkpoint(folder / "one.safetensors", name)], data, "folder"), **changes
        )
        return Judged(folder / "judged", evaluate_checkpoints(request, folder / "judged", silent()))


@pytest.fixture(scope="session")
def multitask(data: Path, tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Judged:
    """Of a network that names images, among them normal ones."""
    return judged_once("plain-multitask-unet", data, tmp_path_factory, data_cache)


@pytest.fixture(scope="session")
def deep_resnet(data: Path, tmp_path_factory: pytest.TempPathFactory, data_cache: Path) -> Judged:
    """Of a network that tells benign from malignant pixels."""
    return judged_once("deep-resnet", data, tmp_path_factory, data_cache)
