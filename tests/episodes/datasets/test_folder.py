from pathlib import Path

import numpy as np
import pytest

from episodes.datasets import folder, read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import prepare_phantoms, write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask, write_table
from tests.episodes.made_pictures import read_label_map


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "b.JPG", "scan.01.tif")):
        save_image(tmp_path / "images" / name, seed)
    for name in ("a.png", "b.png", "scan.01.bmp"):
        save_mask(tmp_path / "masks" / name)
    return tmp_path


def test_without_metadata(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = by_stem(read_dataset("folder", root))
    assert list(records) == ["a", "b", "scan.01"]
    for stem, record in records.items():
        assert (record.dataset, record.label, record.patient) == ("folder", "unknown", f"?{stem}")
        assert (record.spacing, record.extra) == (None, {})
    assert records["b"].masks == (root / "masks" / "b.png",)
    assert (read_label_map(records["b"], (12, 16)) == 3).sum() == 24
    assert not caplog.messages


def test_an_empty_mask_is_fine(root: Path) -> None:
    save_mask(root / "masks" / "a.png", None)
    assert not read_label_map(by_stem(folder.read(root))["a"], (12, 16)).any()


def test_metadata(root: Path) -> None:
    rows = [
        ("image", "label", "patient", "spacing_mm", "device"),
        ("a.png", "Benign", "p1", "0.1", "GE"),  # with suffix
        ("images/b.JPG", "", "p1", "0.1 x 0.12", ""),  # with folder
        ("scan.01", "malignant", "", "", "Sonosite"),  # without suffix
    ]
    write_table(root / "metadata.csv", rows)
    records = by_stem(folder.read(root, dataset="clinic"))
    assert [record.label for record in records.values()] == ["benign", "unknown", "malignant"]
    assert [record.patient for record in records.values()] == ["p1", "p1", "?scan.01"]
    assert [record.spacing for record in records.values()] == [(0.1, 0.1), (0.1, 0.12), None]
    assert records["scan.01"].extra == {"device": "Sonosite"}
    assert records["a"].id == "clinic/a"


def test_only_a_normal_may_lack_its_mask(root: Path) -> None:
    (root / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"images/a\.png: its mask a\.png is missing; restore the mask or"):
        folder.read(root)
    write_table(root / "metadata.csv", [("image", "label"), ("a", "normal"), ("b", ""), ("scan.01", "benign")])
    assert by_stem(folder.read(root))["a"].masks == ()


def test_what_is_left_over_is_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    stray = save_mask(root / "masks" / "c.png")
    write_table(root / "metadata.csv", [("image",), ("a",), ("b",), ("d",), ("scan.01",)])
    assert len(folder.read(root)) == 3
    assert caplog.messages == [
        f"{stray}: left out: a mask without its image",
        f"{root / 'metadata.csv'}: left out: 1 of 4 rows name no image (first: d)",
    ]


@pytest.mark.parametrize("spacing", ["wide", "0", "-1", "inf", "1 2 3", "x"])
def test_a_bad_spacing(root: Path, spacing: str) -> None:
    rows = [("image", "spacing_mm"), ("a", spacing), ("b", ""), ("scan.01", "")]
    write_table(root / "metadata.csv", rows)
    with pytest.raises(
        DatasetError, match=r"metadata\.csv, a: spacing_mm: '.*' is no size in millimetres; write such as"
    ):
        folder.read(root)


def test_errors(root: Path) -> None:
    write_table(root / "metadata.csv", [("image", "label"), ("a", "cyst"), ("b", ""), ("scan.01", "")])
    with pytest.raises(DatasetError, match=r"a\.png: the label 'cyst' is unknown; write one of normal, benign, m"):
        folder.read(root)
    write_table(root / "metadata.csv", [("image", "label"), ("a", "benign")])
    with pytest.raises(DatasetError, match=r"b\.JPG: .*metadata\.csv has no row for it; add the row or remove"):
        folder.read(root)
    write_table(root / "metadata.csv", [("image",), ("a",), ("a.png",), ("b",), ("scan.01",)])
    with pytest.raises(DatasetError, match=r"metadata\.csv: image 'a' comes twice; remove one of the rows"):
        folder.read(root)
    write_table(root / "metadata.csv", [("id", "label"), ("a", "benign")])
    with pytest.raises(DatasetError, match=r"metadata\.csv: the column 'image' is missing; found id, label"):
        folder.read(root)
    save_image(root / "images" / "a.bmp")
    with pytest.raises(DatasetError, match=r"a\.png: a\.bmp differs in the suffix alone; remove one of the two"):
        folder.read(root)


def test_the_phantom_tree_reads_back(tmp_path: Path) -> None:
    phantoms = {phantom.name: phantom for phantom in generate(PhantomSpec("linear", n_images=12, size=48))}
    write_folder(phantoms.values(), tmp_path)
    records = by_stem(folder.read(tmp_path))
    assert records.keys() == phantoms.keys()
    for name, phantom in phantoms.items():
        assert (records[name].label, records[name].patient) == (phantom.label, phantom.patient)
        assert records[name].spacing == pytest.approx(phantom.spacing, rel=1e-5)
        np.testing.assert_array_equal(read_image(records[name].image), phantom.image)
        np.testing.assert_array_equal(read_label_map(records[name], (48, 48)), phantom.label_map)


# Phantoms


SPEC = PhantomSpec("portable", n_images=12, size=32)


def test_phantoms_are_those_that_were_written(tmp_path: Path) -> None:
    records = sorted(folder.read_phantoms(prepare_phantoms(SPEC, tmp_path)), key=lambda record: record.id)
    for record, phantom in zip(records, generate(SPEC), strict=True):
        assert record.id == f"phantom-portable/{phantom.name}"
        assert (record.label, record.patient, record.spacing) == (
            phantom.label,
            phantom.patient,
            phantom.spacing,
        )
        assert record.mask_format == "binary"


def test_reading_a_folder_without_its_description_names_the_fix(tmp_path: Path) -> None:
    write_folder(generate(SPEC), tmp_path)
    with pytest.raises(DatasetError, match=r"phantom\.json is missing.*generate it again.*'folder'"):
        folder.read_phantoms(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"scanner": 1}', "\xff"])
def test_a_damaged_description_is_one_readable_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "phantom.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"phantom\.json is damaged"):
        folder.read_phantoms(tmp_path)
