from pathlib import Path

import numpy as np
import pytest

from episodes.datasets import bus_bra, read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask, write_table
from tests.episodes.made_pictures import read_label_map

HEADER = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")
ROWS = [
    ("bus_0001-l", 1, "fibroadenoma", "benign", 3, "GE", 16, 12, "left", '"[1,2,3,4]"'),
    ("bus_0001-r", 1, "fibroadenoma", "benign", 2, "GE", 99, 99, "right", '"[1,2,3,4]"'),  # a wrong size
    ("bus_0002-s", 2, "carcinoma", "malignant", 5, "GE", 16, 12, "single", '"[1,2,3,4]"'),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, (name, *_) in enumerate(ROWS):
        save_image(tmp_path / "Images" / f"{name}.png", seed, "L")
        save_mask(tmp_path / "Masks" / f"mask_{str(name).removeprefix('bus_')}.png")
    write_table(tmp_path / "bus_data.csv", [HEADER, *ROWS])
    folds = [("ID", "Pathology", "kFold", "valid_1"), ("bus_0001-l", "benign", 3, "NaN")]
    folds += [("bus_0001-r", "benign", 3, 1), ("bus_0002-s", "malignant", "NaN", 0)]
    write_table(tmp_path / "5-fold-cv.csv", folds)
    return tmp_path


def test_records(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = by_stem(read_dataset("bus_bra", root))
    record = records["bus_0001-r"]
    assert (record.id, record.label, record.patient) == ("bus_bra/bus_0001-r", "benign", "1")
    assert record.masks == (root / "Masks" / "mask_0001-r.png",)
    assert record.extra == {"Histology": "fibroadenoma", "BIRADS": "2", "Device": "GE", "Side": "right"}
    assert records["bus_0002-s"].label == "malignant"
    assert (read_label_map(records["bus_0002-s"], (12, 16)) == 2).sum() == 24
    assert not caplog.messages


def test_official_folds(root: Path) -> None:
    assert [r.split for r in read_dataset("bus_bra", root)] == ["3", "3", None]
    write_table(root / "10-fold-cv.csv", [("ID", "kFold"), ("bus_0002-s", 9)])
    records = by_stem(bus_bra.read(root))
    assert records["bus_0002-s"].extra["10-fold"] == "9"
    assert "10-fold" not in records["bus_0001-l"].extra
    (root / "5-fold-cv.csv").unlink()
    assert {record.split for record in bus_bra.read(root)} == {None}


def test_what_is_left_over_is_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "Images" / "bus_0001-l.png").unlink()
    assert len(bus_bra.read(root)) == 2
    assert caplog.messages == [
        f"{root / 'Masks' / 'mask_0001-l.png'}: left out: a mask without its image",
        f"{root / 'bus_data.csv'}: left out: 1 of 3 rows name no image (first: bus_0001-l)",
    ]


def test_errors(root: Path) -> None:
    (root / "Masks" / "mask_0001-l.png").rename(root / "mask.png")
    with pytest.raises(DatasetError, match=r"bus_0001-l\.png: its mask mask_0001-l\.png is missing; restore"):
        bus_bra.read(root)
    (root / "mask.png").rename(root / "Masks" / "mask_0001-l.png")
    write_table(root / "bus_data.csv", [HEADER, *ROWS[1:]])
    with pytest.raises(DatasetError, match=r"bus_0001-l\.png: .*bus_data\.csv has no row for it"):
        bus_bra.read(root)
    write_table(root / "bus_data.csv", [HEADER, (*ROWS[0][:3], "normal", *ROWS[0][4:]), *ROWS[1:]])
    with pytest.raises(DatasetError, match=r"bus_data\.csv, bus_0001-l\.png: the label 'normal' is unknown; write"):
        bus_bra.read(root)


def test_native_files(shared_data: Path) -> None:
    records = by_stem(read_dataset("bus_bra", shared_data / "native" / "BUSBRA"))
    assert len(records) == 6
    assert records["bus_0001-l"].split == "3"
    assert records["bus_0001-l"].patient == records["bus_0001-r"].patient == "1"
    for record in records.values():
        image = read_image(record.image)
        label_map = read_label_map(record, (image.shape[0], image.shape[1]))
        assert set(np.unique(label_map)) == {0, {"benign": 1, "malignant": 2}[record.label]}
    # The table says otherwise for these: only the files count.
    assert read_image(records["bus_0856-l"].image).shape == (353, 387)


def test_counts_of_the_full_set(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = read_dataset("bus_bra", shared_data / "BUSBRA")
    counts = {label: sum(r.label == label for r in records) for label in ("benign", "malignant")}
    assert counts | {"patients": len({r.patient for r in records})} == bus_bra.PUBLISHED
    assert {record.split for record in records} == set("12345")
    assert {record.extra["10-fold"] for record in records} == {str(fold) for fold in range(1, 11)}
    folds: dict[str, set[str | None]] = {}
    for record in records:
        folds.setdefault(record.patient, set()).add(record.split)
    assert all(len(splits) == 1 for splits in folds.values())  # the official folds are grouped by patient
    assert not caplog.messages
