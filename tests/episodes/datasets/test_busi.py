import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.datasets import busi, read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import write_busi
from episodes.phantoms.population import PhantomSpec, generate
from episodes.records import LABEL_VALUES
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask
from tests.episodes.made_pictures import read_label_map


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, label in enumerate(("benign", "malignant", "normal")):
        save_image(tmp_path / label / f"{label} (1).png", number)
        save_mask(tmp_path / label / f"{label} (1)_mask.png")
    save_mask(tmp_path / "normal" / "normal (1)_mask.png", None, "RGB")
    return tmp_path


def test_records(root: Path) -> None:
    records = by_stem(read_dataset("busi", root))
    assert list(records) == ["benign (1)", "malignant (1)", "normal (1)"]
    record = records["malignant (1)"]
    assert (record.id, record.label, record.patient) == ("busi/malignant (1)", "malignant", "?malignant (1)")
    assert record.masks == (root / "malignant" / "malignant (1)_mask.png",)
    assert record.mask_format == "binary"


def test_several_masks_are_one_union_whatever_their_mode(root: Path) -> None:
    folder = root / "benign"
    # As benign (4)_mask_1 in the original: alpha is full everywhere, the colour says where the lesion is.
    save_mask(folder / "benign (1)_mask_1.png", (10, 0, 12, 4), "RGBA", (255, 255, 255, 255))
    save_mask(folder / "benign (1)_mask_2.png", (0, 0, 1, 1))
    record = by_stem(busi.read(root))["benign (1)"]
    assert [path.name for path in record.masks] == [f"benign (1)_mask{i}.png" for i in ("", "_1", "_2")]
    expected = np.zeros((12, 16), np.uint8)
    expected[3:9, 2:6] = expected[0:4, 10:12] = expected[0, 0] = 1
    np.testing.assert_array_equal(read_label_map(record, (12, 16)), expected)


def test_suffixes_and_folder_names_in_any_case(root: Path) -> None:
    (root / "benign").rename(root / "Benign")
    (root / "Benign" / "benign (1).png").rename(root / "Benign" / "benign (1).PNG")
    assert len(busi.read(root)) == 3


def test_a_normal_needs_no_mask(root: Path) -> None:
    (root / "normal" / "normal (1)_mask.png").unlink()
    assert by_stem(busi.read(root))["normal (1)"].masks == ()


def test_a_lesion_needs_a_mask(root: Path) -> None:
    (root / "benign" / "benign (1)_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"benign \(1\)\.png: its mask benign \(1\)_mask\.png is missing"):
        busi.read(root)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("benign (1) (1).png", "a stray copy of benign (1).png"),
        ("benign (1)_mask (2).png", "a stray copy of benign (1)_mask.png"),
        ("benign (7) (1).png", "neither an image"),
        ("malignant (7).png", "neither an image"),
        ("benign (9)_mask.png", "a mask without its image benign (9).png"),
        ("._benign (1).png", "a hidden file"),
    ],
)
def test_stray_files_are_listed(root: Path, name: str, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    save_mask(root / "benign" / name)
    assert len(busi.read(root)) == 3
    (message,) = caplog.messages
    assert message.startswith(str(root / "benign" / name))
    assert reason in message


def test_a_missing_class_folder(root: Path) -> None:
    (root / "normal").rename(root / "healthy")
    with pytest.raises(DatasetError, match=r"lacks the folders benign/, malignant/, normal/; give the folder"):
        busi.read(root)


def test_the_phantom_tree_reads_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    phantoms = list(generate(PhantomSpec("linear", n_images=24, size=48)))
    write_busi(phantoms, tmp_path)
    records = read_dataset("busi", tmp_path)
    assert not caplog.messages
    assert any(len(record.masks) == 2 for record in records)
    for label in ("benign", "malignant", "normal"):
        expected = [phantom for phantom in phantoms if phantom.label == label]
        found = {int(re.findall(r"\d+", r.image.stem)[0]): r for r in records if r.label == label}
        assert len(found) == len(expected) > 0
        for number, phantom in enumerate(expected, start=1):
            np.testing.assert_array_equal(read_image(found[number].image), phantom.image)
            np.testing.assert_array_equal(read_label_map(found[number], (48, 48)), phantom.label_map)


def test_native_files(shared_data: Path) -> None:
    records = by_stem(read_dataset("busi", shared_data / "native" / "Dataset_BUSI_with_GT"))
    assert len(records) == 18
    assert len(records["benign (195)"].masks) == 3
    for stem in ("benign (4)", "benign (54)"):
        with Image.open(records[stem].masks[1]) as mask:
            assert mask.mode == "RGBA"
    for record in records.values():
        image = read_image(record.image)
        label_map = read_label_map(record, (image.shape[0], image.shape[1]))
        assert set(np.unique(label_map)) == {0, LABEL_VALUES[record.label]}


def test_counts_of_the_full_set(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = read_dataset("busi", shared_data / "Dataset_BUSI_with_GT")
    counts = {label: sum(r.label == label for r in records) for label in busi.PUBLISHED}
    assert counts == busi.PUBLISHED == {"benign": 437, "malignant": 210, "normal": 133}
    assert sum(len(record.masks) > 1 for record in records) == 17
    assert not caplog.messages
