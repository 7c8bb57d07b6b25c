"""A store that lost bytes after it was made: the commands that read it stop, and it is made anew."""

from pathlib import Path

import pytest
import yaml

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.cli.conftest import Fewshot
from tests.cli.test_errors import FAILED, complaint


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "clinic"
    write_folder(generate(PhantomSpec("linear", 12, size=64)), root)
    return root


@pytest.fixture
def store(fewshot: Fewshot, clinic: Path, tmp_path: Path) -> Path:
    ended = fewshot("data", "prepare", clinic, "--dataset", "folder", "--size", "64", "--cache", "cache")
    assert ended.status == 0, ended.err
    (folder,) = (tmp_path / "cache" / "stores").iterdir()
    return folder


def zero_half(path: Path) -> bytes:
    """Zero the second half of a file, and return what it held."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2].ljust(len(whole), b"\0"))
    return whole


@pytest.mark.parametrize(("name", "workers"), [("images.npy", 0), ("label_maps.npy", 1)])
def test_training_stops_in_one_line(
    name: str, workers: int, store: Path, clinic: Path, fewshot: Fewshot, tmp_path: Path
) -> None:
    """Where a worker reads it as well."""
    tree = {
        "name": "model",
        "datasets": {"folder": {"reader": "folder", "root": str(clinic)}},
        "sources": ["folder"],
        "image_size": 64,
        "cache": "cache",
        "encoder": {"name": "test_efficientnet"},
        "model": {"network": "unet", "levels": [1, 2], "options": {"decoder_channels": [8]}},
        "train": {"steps": 20, "batch_size": 4, "workers": workers},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(tree))
    zero_half(store / name)
    said = complaint(fewshot("train", "train.yaml"), FAILED)
    place = store.relative_to(tmp_path)
    assert f"fewshot: {place / name}: damaged where it holds folder/linear_0" in said
    assert said.endswith(f"; delete the folder {place} and give the same command again, which makes it anew")
    assert not (tmp_path / "runs" / "model" / "checkpoint.safetensors").exists()


def test_prepare_makes_it_anew(store: Path, clinic: Path, fewshot: Fewshot) -> None:
    whole = zero_half(store / "images.npy")
    ended = fewshot("data", "prepare", clinic, "--dataset", "folder", "--size", "64", "--cache", "cache")
    assert ended.status == 0
    assert "images.npy: damaged where it holds folder/linear_0" in ended.err
    assert ": it is made anew" in ended.err
    assert (store / "images.npy").read_bytes() == whole
