import sys
from pathlib import Path

import pytest

from episodes.datasets import breast_usg, read_dataset
from episodes.errors import DatasetError
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask, write_excel, write_table
from tests.episodes.made_pictures import read_label_map

HEADER = ("CaseID", "Image_filename", "Mask_tumor_filename", "Pixel_size", "Age", "BIRADS", "Classification")
ROWS = [
    (1, "case001.png", "case001_tumor.png", 0.0073, 57, "4b", "malignant"),
    (2, "case002.png", "case002_tumor.png", 0.0073, None, 2, "benign"),
    (45, "case045.png", None, 0.0073, 40, 1, "normal"),
]
WHITE = (255, 255, 255, 255)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, (_, name, mask, *_rest) in enumerate(ROWS):
        save_image(tmp_path / str(name), seed, "RGBA")
        if mask:
            save_mask(tmp_path / str(mask), mode="RGBA", colour=WHITE)
    write_excel(tmp_path / "clinical.xlsx", [HEADER, *ROWS, (None,) * 7])
    return tmp_path


def test_records(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = by_stem(read_dataset("breast_usg", root))
    assert {stem: record.label for stem, record in records.items()} == {
        "case001": "malignant",
        "case002": "benign",
        "case045": "normal",
    }
    record = records["case001"]
    assert (record.id, record.patient) == ("breast_usg/case001", "case001")
    assert record.extra == {"BIRADS": "4b", "Pixel_size": "0.0073", "Age": "57"}
    assert "Age" not in records["case002"].extra
    assert records["case045"].masks == ()
    assert not caplog.messages


def test_transparent_background_is_no_lesion(root: Path) -> None:
    label_map = read_label_map(by_stem(breast_usg.read(root))["case001"], (12, 16))
    assert (label_map == 2).sum() == (label_map > 0).sum() == 24


def test_other_findings_and_strays_are_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = save_mask(root / "case045_other1.png", mode="RGBA", colour=WHITE)
    alone = save_mask(root / "case099_tumor.png", mode="RGBA", colour=WHITE)
    stray = save_image(root / "overview.png")
    assert by_stem(breast_usg.read(root))["case045"].masks == ()
    assert caplog.messages == [
        f"{other}: left out: a mask of another finding than the lesion",
        f"{stray}: left out: neither an image caseN nor a mask caseN_tumor",
        f"{alone}: left out: a mask without its image case099.png",
    ]


@pytest.mark.parametrize("given", ["archive", "images"])
def test_images_in_a_folder_beside_the_table(root: Path, given: str) -> None:
    """The archive unpacks to a folder of images; the table is downloaded beside it."""
    images = root / "BrEaST-Lesions_USG-images_and_masks"
    images.mkdir()
    for file in root.glob("*.png"):
        file.rename(images / file.name)
    assert len(breast_usg.read(root if given == "archive" else images)) == 3


def test_a_csv_in_place_of_the_excel_table(root: Path) -> None:
    (root / "clinical.xlsx").unlink()
    write_table(root / "clinical.csv", [HEADER, *ROWS])
    assert len(breast_usg.read(root)) == 3


def test_without_openpyxl_the_error_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DatasetError, match=r"clinical\.xlsx: Excel tables need openpyxl: run `pip install open"):
        breast_usg.read(root)


def test_errors(root: Path) -> None:
    (root / "case002_tumor.png").unlink()
    with pytest.raises(DatasetError, match=r"case002\.png: its mask case002_tumor\.png is missing; restore"):
        breast_usg.read(root)
    write_excel(root / "clinical.xlsx", [HEADER, *ROWS[1:]])
    with pytest.raises(DatasetError, match=r"case001\.png: .*clinical\.xlsx has no row for it"):
        breast_usg.read(root)
    write_excel(root / "clinical.xlsx", [HEADER, (*ROWS[0][:-1], "B"), *ROWS[1:]])
    with pytest.raises(DatasetError, match=r"clinical\.xlsx, case001\.png: the label 'B' is unknown; write one of"):
        breast_usg.read(root)
    write_excel(root / "clinical.xlsx", [HEADER[:-1], *(row[:-1] for row in ROWS)])
    with pytest.raises(DatasetError, match=r"clinical\.xlsx: the column 'Classification' is missing; found CaseID"):
        breast_usg.read(root)
    write_excel(root / "copy.xlsx", [HEADER])
    with pytest.raises(DatasetError, match=r"several \.xlsx tables; keep the clinical data alone"):
        breast_usg.read(root)


def test_missing_table_and_images(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / "clinical.xlsx").unlink()
    with pytest.raises(DatasetError, match=r"the table of clinical data \(\.xlsx\) is missing; put it beside"):
        breast_usg.read(root)
    with pytest.raises(DatasetError, match=r"there are no images case001\.png, \.\.\.; give the folder"):
        breast_usg.read(tmp_path_factory.mktemp("empty"))
