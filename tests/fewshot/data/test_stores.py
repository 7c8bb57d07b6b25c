"""From a configured dataset to its store."""

from pathlib import Path
from typing import Any

import pytest

from episodes.errors import DatasetError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.config.data import DataConfig
from fewshot.config.parsing import parse_config
from fewshot.stores import default_cache, open_collection, open_store, read_records
from tests.fewshot.tiny_runs import silent

PHANTOM = {"phantom": {"scanner": "linear", "n_images": 4, "size": 64}}


def config(folder: Path, **changes: Any) -> DataConfig:
    tree = {"datasets": {"linear": PHANTOM}, "image_size": 32, "cache": str(folder / "cache"), **changes}
    return parse_config(tree, DataConfig, "data")


def folder_dataset(root: Path, seed: int = 0) -> Path:
    write_folder(generate(PhantomSpec("portable", 4, seed=seed, size=64)), root)
    return root


def test_phantoms_are_generated_once_and_kept_in_the_cache(tmp_path: Path) -> None:
    first = read_records(config(tmp_path), "linear")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "phantoms").rglob("*.png")}
    assert len(written) == 8  # an image and a mask each
    assert read_records(config(tmp_path), "linear") == first
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_records_bear_the_configured_name(tmp_path: Path) -> None:
    folder_dataset(tmp_path / "a")
    folder_dataset(tmp_path / "b", seed=1)
    datasets = {name: {"reader": "folder", "root": name} for name in ("a", "b")}
    collection = open_collection(config(tmp_path, datasets=datasets, data_root=str(tmp_path)), ["a", "b"], silent())
    assert [record.id.partition("/")[0] for record in collection.records] == ["a"] * 4 + ["b"] * 4
    assert len({record.id for record in collection.records}) == 8
    assert {record.patient_id.partition("/")[0] for record in collection.records} == {"a", "b"}


def test_a_relative_folder_lies_in_the_data_root_and_an_absolute_one_does_not(tmp_path: Path) -> None:
    root = folder_dataset(tmp_path / "data" / "mine")
    for given in ("mine", str(root)):
        found = config(tmp_path, datasets={"m": {"reader": "folder", "root": given}}, data_root=str(tmp_path / "data"))
        assert read_records(found, "m")[0].image.parent == root / "images"


def test_a_store_has_the_working_size_and_is_found_again(tmp_path: Path) -> None:
    store = open_store(config(tmp_path), "linear", silent())
    assert store.images.shape == store.label_maps.shape == (4, 32, 32)
    assert store.folder.parent == tmp_path / "cache" / "stores"
    before = (store.folder / "images.npy").stat().st_mtime_ns
    again = open_store(config(tmp_path), "linear", silent())
    assert again.folder == store.folder
    assert (store.folder / "images.npy").stat().st_mtime_ns == before
    assert open_store(config(tmp_path, image_size=64), "linear", silent()).folder != store.folder


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    mine = config(tmp_path, datasets={"m": {"reader": "folder", "root": "nowhere"}}, data_root=str(tmp_path))
    with pytest.raises(DatasetError, match=r"nowhere does not exist: give the folder that holds the dataset folder"):
        open_store(mine, "m", silent())


def test_the_cache_is_the_users_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "fewshot-bus"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "home" / ".cache" / "fewshot-bus"
