from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.records import Label, Record
from fewshot.plots.datasets import LABEL_COLOURS, LEFT, PANEL, THICK, WHOLE, classes_figure, splits_figure
from tests.episodes.made_records import made_dataset, made_record
from tests.fewshot.plots.pictures import coloured, pixels

RECORDS = made_dataset("d", {"benign": 20, "malignant": 10, "normal": 5}, 2)
MIDDLE = round((LEFT + PANEL + 1) * 150)  # between the two panels


def bar(path: Path, label: Label, columns: slice = slice(None)) -> tuple[int, int]:
    """Length and thickness of what has a class's colour, in pixels."""
    rows, places = np.nonzero(coloured(path, LABEL_COLOURS[label])[:, columns])
    return int(np.ptp(places)) + 1, int(np.ptp(rows)) + 1


def lengths(path: Path, labels: list[Label], columns: slice) -> NDArray[np.float64]:
    return np.array([bar(path, label, columns)[0] for label in labels], float)


def test_bars_are_as_long_as_there_are_images_and_patients(tmp_path: Path) -> None:
    records = [*RECORDS, *(made_record("d", f"more{n}", "malignant", "malignant0") for n in range(30))]
    path = classes_figure(tmp_path / "classes.png", records, title="made")
    labels: list[Label] = ["benign", "malignant", "normal"]
    images = lengths(path, labels, slice(0, MIDDLE))
    assert images / images.max() == pytest.approx([40 / 50, 50 / 50, 10 / 50], abs=0.01)
    patients = lengths(path, labels, slice(MIDDLE, None))
    assert patients / patients.max() == pytest.approx([1, 0.5, 0.25], abs=0.01)


def test_classes_without_an_image_have_no_row(tmp_path: Path) -> None:
    path = classes_figure(tmp_path / "classes.png", RECORDS, title="made")
    assert not coloured(path, LABEL_COLOURS["unknown"]).any()
    fewer = [record for record in RECORDS if record.label == "benign"]
    assert pixels(classes_figure(tmp_path / "one.png", fewer, title="made")).shape[0] < pixels(path).shape[0]


def test_a_patient_of_several_classes_counts_in_each(tmp_path: Path) -> None:
    mixed = [made_record("d", f"{n}", ("benign", "normal")[n % 2], f"p{n // 2}") for n in range(8)]  # type: ignore[arg-type]
    path = classes_figure(tmp_path / "classes.png", mixed, title="made")
    patients = lengths(path, ["benign", "normal"], slice(MIDDLE, None))
    assert patients[0] == patients[1] == pytest.approx(PANEL * 150, abs=2)


def test_it_is_said_where_a_dataset_names_no_patients(tmp_path: Path) -> None:
    """As many images and patients, by the same names: only the words can differ."""
    named = [Record("d", Path(f"{n}.png"), (), "benign", f"p{n}") for n in range(5)]
    unnamed = [Record("d", Path(f"{n}.png"), (), "benign", "") for n in range(5)]
    first, second = (
        pixels(classes_figure(tmp_path / f"{place}.png", records, title="made"))
        for place, records in enumerate((named, unnamed))
    )
    differing = np.nonzero((first != second).any(axis=(1, 2)))[0]
    assert differing.max() > len(first) - 50  # the note below
    assert differing.min() < 68  # the title


def test_parts_are_stacks_of_shares_in_their_usual_order(tmp_path: Path) -> None:
    part_of = {"benign": ("test", "train"), "malignant": ("train",), "normal": ("val",)}
    parts = {
        record.id: part_of[record.label][place % len(part_of[record.label])] for place, record in enumerate(RECORDS)
    }
    path = splits_figure(tmp_path / "splits.png", RECORDS, parts, title="made")
    found = {label: coloured(path, LABEL_COLOURS[label]) for label in ("benign", "malignant", "normal")}
    whole = WHOLE * 150

    def share(label: str, row: int) -> float:
        height = round((0.45 + 0.42 * (row + 0.5) + 0.42 * THICK * 0.4) * 150)  # near the bar's edge, below its number
        return float(found[label][height, round(LEFT * 150) :].sum() / whole)

    assert [share(label, 0) for label in found] == pytest.approx([0.5, 0.5, 0], abs=0.01)  # train
    assert [share(label, 1) for label in found] == pytest.approx([0, 0, 1], abs=0.01)  # val
    assert [share(label, 2) for label in found] == pytest.approx([1, 0, 0], abs=0.01)  # test


def test_long_names_of_parts_stay_in_the_picture(tmp_path: Path) -> None:
    parts = {record.id: f"an-endless-name-of-part-{place % 2}" for place, record in enumerate(RECORDS)}
    path = splits_figure(tmp_path / "splits.png", RECORDS, parts, title="an endless title " * 30)
    assert (pixels(path)[:, :10] == 255).all()
    assert (pixels(path)[:, -10:] == 255).all()


def test_the_same_records_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    parts = {record.id: ("train", "test")[place % 2] for place, record in enumerate(RECORDS)}
    for draw in (
        lambda path, records: classes_figure(path, records, title="made"),
        lambda path, records: splits_figure(path, records, parts, title="made"),
    ):
        first, second = (
            draw(tmp_path / f"{place}.png", records).read_bytes()
            for place, records in enumerate((RECORDS, RECORDS[::-1]))
        )
        assert first == second


def test_there_has_to_be_a_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image to count"):
        classes_figure(tmp_path / "classes.png", [], title="made")
    with pytest.raises(ValueError, match="no image to count"):
        splits_figure(tmp_path / "splits.png", [], {}, title="made")
