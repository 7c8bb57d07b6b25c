from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from episodes.datasets import read_dataset, udiat
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import write_udiat
from episodes.phantoms.population import PhantomSpec, generate
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask, write_excel, write_table
from tests.episodes.made_pictures import read_label_map

LABELS = {"000001": "benign", "000002": "malignant", "000012": "benign"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, stem in enumerate(LABELS):
        save_image(tmp_path / "original" / f"{stem}.png", seed)
        save_mask(tmp_path / "GT" / f"{stem}.png")
    return tmp_path


@pytest.fixture
def by_class(tmp_path: Path) -> Path:
    for seed, (stem, label) in enumerate(LABELS.items()):
        save_image(tmp_path / label.capitalize() / f"{stem}.png", seed)
        save_mask(tmp_path / "all_masks" / f"{stem}.png")
    return tmp_path


def write_original_list(root: Path) -> None:
    """As `DatasetB.xlsx` is: numbers, not names, and a column more."""
    rows = [(int(stem), label.capitalize(), "CYST") for stem, label in LABELS.items()]
    write_excel(root / "DatasetB.xlsx", [("Image", "Type", "Diagnosis"), *rows])


def write_csv_list(root: Path) -> None:
    rows = [(f"{stem}.png", label) for stem, label in LABELS.items()]
    write_table(root / "cases.csv", [("name", "class"), *rows], delimiter=";")


def write_spaced_list(root: Path) -> None:
    (root / "list.txt").write_text("".join(f"{stem} {label}\n" for stem, label in LABELS.items()))


def write_lists_by_name(root: Path) -> None:
    (root / "Benign cases.txt").write_text("1\n12\n")
    (root / "malignant.txt").write_text("000002.png")


@pytest.mark.parametrize("write_list", [write_original_list, write_csv_list, write_spaced_list, write_lists_by_name])
def test_lists_of_cases(root: Path, write_list: Callable[[Path], None]) -> None:
    write_list(root)
    (root / "readme.txt").write_text("163 images, benign and malignant, 1 list\n")
    records = by_stem(read_dataset("udiat", root))
    assert {stem: record.label for stem, record in records.items()} == LABELS
    assert records["000012"].patient == "?000012"
    assert records["000012"].id == "udiat/000012"
    assert (read_label_map(records["000002"], (12, 16)) == 2).sum() == 24


def test_the_layout_by_class(by_class: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = by_stem(read_dataset("udiat", by_class))
    assert {stem: record.label for stem, record in records.items()} == LABELS
    assert records["000001"].masks == (by_class / "all_masks" / "000001.png",)
    assert not caplog.messages


def test_malignant_mask_fills_what_all_masks_lacks(by_class: Path, caplog: pytest.LogCaptureFixture) -> None:
    further = save_mask(by_class / "Malignant_mask" / "000002.png")
    assert by_stem(udiat.read(by_class))["000002"].masks == (by_class / "all_masks" / "000002.png",)
    assert caplog.messages == [f"{further.parent}: left out: the masks that are in all_masks/ as well"]
    caplog.clear()
    (by_class / "all_masks" / "000002.png").unlink()
    assert by_stem(udiat.read(by_class))["000002"].masks == (further,)
    assert not caplog.messages


def test_masks_without_image_are_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_csv_list(root)
    stray = save_mask(root / "GT" / "000163.png")
    assert len(udiat.read(root)) == 3
    assert caplog.messages == [f"{stray}: left out: a mask without its image"]


def test_errors(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"000001\.png: no list of cases in .* names it \(3 such\); restore Dat"):
        udiat.read(root)
    write_lists_by_name(root)
    (root / "malignant.txt").write_text("2\n12\n")
    with pytest.raises(
        DatasetError, match=r"malignant\.txt: case 000012 is listed as benign and as malignant; mend the"
    ):
        udiat.read(root)
    write_lists_by_name(root)
    (root / "GT" / "000012.png").unlink()
    with pytest.raises(DatasetError, match=r"original/000012\.png: its mask 000012\.png is missing; restore"):
        udiat.read(root)


def test_missing_folders_name_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    expected = r"lacks the folders original/, GT/ or Benign/, Malignant/, all_masks/; give the folder"
    with pytest.raises(DatasetError, match=expected):
        udiat.read(tmp_path)


def test_a_damaged_list(root: Path) -> None:
    (root / "DatasetB.xlsx").write_bytes(b"not a zip")
    with pytest.raises(DatasetError, match=r"DatasetB\.xlsx is no readable Excel table \(.*\); restore"):
        udiat.read(root)


@pytest.mark.parametrize("layout_by_class", [False, True])
def test_the_phantom_tree_reads_back(tmp_path: Path, layout_by_class: bool) -> None:
    phantoms = list(generate(PhantomSpec("highfreq", n_images=16, size=48)))
    write_udiat(phantoms, tmp_path)
    if layout_by_class:
        (tmp_path / "GT").rename(tmp_path / "all_masks")
        for label in ("benign", "malignant"):
            (tmp_path / label.capitalize()).mkdir()
            for case in (tmp_path / f"{label}.txt").read_text().split():
                (tmp_path / "original" / f"{case}.png").rename(tmp_path / label.capitalize() / f"{case}.png")
            (tmp_path / f"{label}.txt").unlink()
        (tmp_path / "original").rmdir()
    records = read_dataset("udiat", tmp_path)
    lesions = [phantom for phantom in phantoms if phantom.label != "normal"]
    assert len(records) == len(lesions)
    for record, phantom in zip(records, lesions, strict=True):  # numbered in order
        assert record.label == phantom.label
        np.testing.assert_array_equal(read_image(record.image), phantom.image)
        np.testing.assert_array_equal(read_label_map(record, (48, 48)), phantom.label_map)


@pytest.mark.parametrize(
    "name",
    [
        "non-malignant",
        "nonmalignant",
        "not_malignant",
        "no malignant",
        "pre-malignant",
        "Malignantish",
        "NON_MALIGNANT",
    ],
)
def test_part_of_a_word_or_a_denied_one_is_no_class(root: Path, name: str) -> None:
    (root / "malignant.txt").write_text("2\n")
    (root / f"{name}.txt").write_text("1\n12\n")
    with pytest.raises(DatasetError, match=r"000001\.png: no list of cases in .* names it \(2 such\)"):
        udiat.read(root)
    (root / "Benign.txt").write_text("1\n12\n")
    assert {stem: record.label for stem, record in by_stem(udiat.read(root)).items()} == LABELS


@pytest.mark.parametrize("name", ["MALIGNANT", "malignant_cases", "2-malignant", "list.malignant", "AllMalignantCases"])
def test_a_class_is_a_whole_word_of_the_name(root: Path, name: str) -> None:
    (root / "benign.txt").write_text("1\n12\n")
    (root / f"{name}.txt").write_text("2\n")
    assert {stem: record.label for stem, record in by_stem(udiat.read(root)).items()} == LABELS


def test_a_line_that_denies_a_class_does_not_say_it(root: Path) -> None:
    (root / "cases.txt").write_text("1 benign\n2 malignant\n12 not malignant\n")
    with pytest.raises(DatasetError, match=r"000012\.png: no list of cases in .* names it \(1 such\)"):
        udiat.read(root)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"benign": "1\n12\n000001.png\n", "malignant": "2\n"}, r"benign\.txt: case 000001 is listed twice; mend"),
        ({"benign": "1\n12\n", "malignant": "2\n1\n"}, r"malignant\.txt: case 000001 is listed as benign and as mal"),
        ({"cases": "1 benign\n12 benign\n2 malignant\n1 malignant\n"}, r"cases\.txt: case 000001 is listed as benign"),
    ],
)
def test_a_case_that_is_listed_twice(root: Path, lists: dict[str, str], expected: str) -> None:
    for name, text in lists.items():
        (root / f"{name}.txt").write_text(text)
    with pytest.raises(DatasetError, match=expected):
        udiat.read(root)


def test_lists_that_agree_may_both_name_a_case(root: Path) -> None:
    write_lists_by_name(root)
    write_csv_list(root)
    assert {stem: record.label for stem, record in by_stem(udiat.read(root)).items()} == LABELS
