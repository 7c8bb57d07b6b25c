from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.datasets import bus_uclm, read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.phantoms.layouts import write_bus_uclm
from episodes.phantoms.population import PhantomSpec, generate
from tests.episodes.datasets.made_trees import by_stem, save_image, save_mask, write_table
from tests.episodes.made_pictures import read_label_map

HEADER = ("Image", "Resolution", "Label", "Doppler", "Marks", "Combined")
ROWS = [
    ("ABCD_000.png", "16x12", "Benign", "Y", "Yes", "No"),
    ("ABCD_001.png", "16x12", "Normal", "No", "No", "No"),
    ("EFGH_000.png", "16x12", "Malignant", "No", "No", "No"),
]
COLOURS = {"Benign": (0, 255, 0), "Malignant": (255, 0, 0)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, (name, _, label, *_) in enumerate(ROWS):
        save_image(tmp_path / "images" / name, seed)
        box = (2, 3, 6, 9) if label in COLOURS else None
        save_mask(tmp_path / "masks" / name, box, "RGB", COLOURS.get(label))
    write_table(tmp_path / "INFO.csv", [HEADER, *ROWS], delimiter=";", bom=True)
    return tmp_path


def test_records(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = by_stem(read_dataset("bus_uclm", root))
    record = records["ABCD_000"]
    assert (record.id, record.label, record.patient) == ("bus_uclm/ABCD_000", "benign", "ABCD")
    assert record.mask_format == "colour"
    assert record.spacing is None
    assert record.extra == {"Doppler": "Yes", "Marks": "Yes", "Combined": "No"}  # the stray Y is spelt out
    assert records["ABCD_001"].patient == "ABCD"
    assert records["ABCD_001"].label == "normal"
    assert not caplog.messages


def test_red_is_malignant_and_survives(root: Path) -> None:
    """Red is 0.30 in luma: thresholding grey at one half would delete every malignant lesion."""
    record = by_stem(bus_uclm.read(root))["EFGH_000"]
    label_map = read_label_map(record, (12, 16))
    assert (label_map == 2).sum() == 4 * 6
    assert (label_map[3:9, 2:6] == 2).all()


def test_a_smaller_rgba_image_gets_its_mask_resized(root: Path) -> None:
    save_image(root / "images" / "ABCD_000.png", mode="RGBA", size=(6, 8))
    record = by_stem(bus_uclm.read(root))["ABCD_000"]
    image = read_image(record.image)
    assert image.shape == (6, 8)
    with Image.open(record.masks[0]) as mask:
        green = mask.getchannel("G")
    # Halving: each pixel takes the lower right one of the four that it covers.
    expected = [[int(green.getpixel((2 * x + 1, 2 * y + 1)) == 255) for x in range(8)] for y in range(6)]
    np.testing.assert_array_equal(read_label_map(record, (6, 8)), expected)


def test_stray_copies_are_listed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_image(root / "images" / "ABCD_001 (1).png")
    save_mask(root / "masks" / "ABCD_001 (1).png", None, "RGB")
    assert len(bus_uclm.read(root)) == 3
    assert caplog.messages == [
        f"{root / folder / 'ABCD_001 (1).png'}: left out: a stray copy of ABCD_001.png"
        for folder in ("images", "masks")
    ]


def test_a_partial_copy_is_read_and_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "images" / "ABCD_001.png").unlink()
    assert len(bus_uclm.read(root)) == 2
    assert caplog.messages == [
        f"{root / 'masks' / 'ABCD_001.png'}: left out: a mask without its image",
        f"{root / 'INFO.csv'}: left out: 1 of 3 rows name no image (first: ABCD_001)",
    ]


def test_errors(root: Path) -> None:
    def read(*rows: tuple[str, ...]) -> None:
        write_table(root / "INFO.csv", rows, delimiter=";")
        bus_uclm.read(root)

    with pytest.raises(DatasetError, match=r"ABCD_000\.png: .*INFO\.csv has no row for it; add the row"):
        read(HEADER, *ROWS[1:])
    with pytest.raises(DatasetError, match=r"INFO\.csv, EFGH_000\.png: the label 'Maligno' is unknown; write"):
        read(HEADER, *ROWS[:2], ("EFGH_000.png", "16x12", "Maligno", "No", "No", "No"))
    with pytest.raises(DatasetError, match=r"INFO\.csv: the column 'Label' is missing; found Image, Resolution"):
        read((*HEADER[:2], "Class", *HEADER[3:]), *ROWS)
    with pytest.raises(DatasetError, match=r"INFO\.csv: Image 'ABCD_000\.png' comes twice"):
        read(HEADER, *ROWS, ROWS[0])
    (root / "masks" / "EFGH_000.png").unlink()
    with pytest.raises(DatasetError, match=r"images/EFGH_000\.png: its mask EFGH_000\.png is missing; restore"):
        read(HEADER, *ROWS)
    (root / "INFO.csv").unlink()
    with pytest.raises(DatasetError, match=r"INFO\.csv is missing; restore it"):
        bus_uclm.read(root)


def test_the_phantom_tree_reads_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    phantoms = list(generate(PhantomSpec("portable", n_images=24, size=48)))
    write_bus_uclm(phantoms, tmp_path)
    records = by_stem(read_dataset("bus_uclm", tmp_path))
    assert not caplog.messages
    # Codes are given in the order of the patients, AAAA first, and images are numbered within a patient.
    codes = sorted({record.patient for record in records.values()})
    codes.insert(3, codes.pop())  # HESN
    patients = list(dict.fromkeys(phantom.patient for phantom in phantoms))
    assert len(codes) == len(patients)
    numbers: Counter[str] = Counter()
    n_same_size = 0
    for phantom in phantoms:
        record = records[f"{codes[patients.index(phantom.patient)]}_{numbers[phantom.patient]:03d}"]
        numbers[phantom.patient] += 1
        image = read_image(record.image)
        label_map = read_label_map(record, (image.shape[0], image.shape[1]))
        assert record.label == phantom.label
        assert label_map.shape == image.shape
        assert label_map.max() == phantom.label_map.max()
        if image.shape == (48, 48):
            n_same_size += 1
            np.testing.assert_array_equal(image, phantom.image)
            np.testing.assert_array_equal(label_map, phantom.label_map)
    assert 0 < n_same_size < len(phantoms)


def test_native_files(shared_data: Path) -> None:
    records = by_stem(read_dataset("bus_uclm", shared_data / "native" / "BUS-UCLM"))
    assert len(records) == 14
    assert records["POFR_013"].extra["Doppler"] == "Yes"  # spelt Y in the file
    for record in records.values():
        image = read_image(record.image)
        label_map = read_label_map(record, (image.shape[0], image.shape[1]))
        assert label_map.shape == image.shape
        assert set(np.unique(label_map)) - {0} == {"normal": set(), "benign": {1}, "malignant": {2}}[record.label]
    assert read_image(records["HESN_002"].image).shape == (468, 790)
    for one, other in (("CHCO_000", "CHVI_005"), ("CHCO_003", "CHVI_013")):
        np.testing.assert_array_equal(read_image(records[one].image), read_image(records[other].image))


def test_counts_of_the_full_set(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = read_dataset("bus_uclm", shared_data / "BUS-UCLM")
    counts = {label: sum(r.label == label for r in records) for label in ("benign", "malignant", "normal")}
    assert counts | {"patients": len({r.patient for r in records})} == bus_uclm.PUBLISHED
    assert {flag for record in records for flag in record.extra.values()} == {"Yes", "No"}
    assert not caplog.messages
