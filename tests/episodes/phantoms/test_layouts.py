"""Phantoms on disk, read back with Pillow alone; the readers have tests of their own."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import DatasetError, StorageError
from episodes.io.locks import waiting_lock
from episodes.phantoms import layouts
from episodes.phantoms.layouts import prepare_phantoms, write_bus_uclm, write_busi, write_folder, write_udiat
from episodes.phantoms.population import Phantom, PhantomSpec, generate

SPEC = PhantomSpec("highfreq", n_images=36, size=32)


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return list(generate(SPEC))


def _read(path: Path, mode: str = "L") -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert(mode))


def _mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def _rows(path: Path, delimiter: str = ",", encoding: str = "utf-8") -> list[dict[str, str]]:
    with path.open(newline="", encoding=encoding) as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_folder(phantoms: list[Phantom], tmp_path: Path) -> None:
    write_folder(phantoms, tmp_path)
    rows = _rows(tmp_path / "metadata.csv")
    assert [row["image"] for row in rows] == [one.name for one in phantoms]
    for row, one in zip(rows, phantoms, strict=True):
        assert (row["label"], row["patient"], float(row["spacing_mm"])) == (one.label, one.patient, 28 / 32)
        image, mask = tmp_path / "images" / f"{one.name}.png", tmp_path / "masks" / f"{one.name}.png"
        assert _mode(image) == _mode(mask) == "L"
        np.testing.assert_array_equal(_read(image), one.image)
        np.testing.assert_array_equal(_read(mask), 255 * (one.label_map > 0))


def test_busi(phantoms: list[Phantom], tmp_path: Path) -> None:
    write_busi(phantoms, tmp_path)
    kinds = []
    for label in ("benign", "malignant", "normal"):
        chosen = [one for one in phantoms if one.label == label]
        for number, one in enumerate(chosen, start=1):
            stem = f"{label} ({number})"
            assert _mode(tmp_path / label / f"{stem}.png") == "RGB"
            np.testing.assert_array_equal(_read(tmp_path / label / f"{stem}.png"), one.image)
            masks = sorted((tmp_path / label).glob(f"{stem}_mask*.png"))
            kinds.append([_mode(mask) for mask in masks])
            parts = [_read(mask, "RGB").max(axis=2) > 127 for mask in masks]
            assert all(part.any() for part in parts) == (label != "normal")
            np.testing.assert_array_equal(np.logical_or.reduce(parts), one.label_map > 0)
        assert len(list((tmp_path / label).glob("*[)].png"))) == len(chosen)
    assert {tuple(kind) for kind in kinds} == {("1",), ("1", "1"), ("1", "RGBA"), ("RGB",)}


def test_bus_uclm(phantoms: list[Phantom], tmp_path: Path) -> None:
    write_bus_uclm(phantoms, tmp_path)
    assert (tmp_path / "INFO.csv").read_bytes().startswith(b"\xef\xbb\xbfImage;Resolution;Label;Doppler;")
    rows = _rows(tmp_path / "INFO.csv", ";", "utf-8-sig")
    assert [row["Doppler"] for row in rows].count("Y") == 1
    codes = dict.fromkeys(row["Image"].partition("_")[0] for row in rows)
    assert len(codes) == len({one.patient for one in phantoms})
    modes = set()
    for row, one in zip(rows, phantoms, strict=True):
        assert row["Label"].lower() == one.label
        image, mask = tmp_path / "images" / row["Image"], _read(tmp_path / "masks" / row["Image"], "RGB")
        modes.add(_mode(image))
        height, width = _read(image).shape
        assert row["Resolution"] == f"{width}x{height}"
        assert (_mode(image) == "RGBA") == ((height, width) != one.image.shape)
        np.testing.assert_array_equal(mask[..., 1] == 255, one.label_map == 1)
        np.testing.assert_array_equal(mask[..., 0] == 255, one.label_map == 2)
        assert not mask[..., 2].any()
    assert modes == {"RGB", "RGBA"}


def test_udiat(phantoms: list[Phantom], tmp_path: Path) -> None:
    write_udiat(phantoms, tmp_path)
    lesions = [one for one in phantoms if one.label != "normal"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"original", "GT"}
    listed = {}
    for number, one in enumerate(lesions, start=1):
        case = f"{number:06d}"
        listed[case] = one.label
        np.testing.assert_array_equal(_read(tmp_path / "original" / f"{case}.png"), one.image)
        np.testing.assert_array_equal(_read(tmp_path / "GT" / f"{case}.png") > 127, one.label_map > 0)
    malignant = set((tmp_path / "malignant.txt").read_text().split())
    assert set((tmp_path / "benign.txt").read_text().split()) == listed.keys() - malignant
    assert malignant == {case for case, label in listed.items() if label == "malignant"}


def test_prepared_once(tmp_path: Path) -> None:
    root = prepare_phantoms(SPEC, tmp_path / "new")
    assert root.name == f"highfreq-36-0-32-v{layouts.VERSION}"
    assert json.loads((root / "phantom.json").read_text())["seed"] == 0
    before = (root / "metadata.csv").stat().st_mtime_ns
    assert prepare_phantoms(SPEC, tmp_path / "new") == root
    assert (root / "metadata.csv").stat().st_mtime_ns == before
    assert list(root.parent.iterdir()) == [root]


def test_interrupted_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(spec: PhantomSpec) -> Iterator[Phantom]:
        yield next(generate(spec))
        raise KeyboardInterrupt

    monkeypatch.setattr(layouts, "generate", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare_phantoms(SPEC, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_another_process_wrote_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def overtaken(root: Path) -> Iterator[None]:
        monkeypatch.setattr(layouts, "waiting_lock", waiting_lock)
        prepare_phantoms(SPEC, tmp_path)
        monkeypatch.setattr(layouts, "generate", lambda spec: pytest.fail("generated again"))
        yield

    monkeypatch.setattr(layouts, "waiting_lock", overtaken)
    root = prepare_phantoms(SPEC, tmp_path)
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_foreign_folder_is_not_used(tmp_path: Path, content: str | None) -> None:
    root = tmp_path / f"highfreq-36-0-32-v{layouts.VERSION}"
    root.mkdir()
    if content is not None:
        (root / "phantom.json").write_text(content)
    with pytest.raises(DatasetError, match="delete the folder"):
        prepare_phantoms(SPEC, tmp_path)


def test_a_folder_that_cannot_be_written_is_one_readable_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot be written.*choose another place"):
        prepare_phantoms(SPEC, tmp_path / "file" / "phantoms")


def test_a_full_disk_is_one_readable_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layouts, "write_folder", full)
    with pytest.raises(StorageError, match=r"No space left on device.*free some space"):
        prepare_phantoms(SPEC, tmp_path)
    assert not list(tmp_path.iterdir())
