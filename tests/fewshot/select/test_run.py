"""`fewshot select` from a folder of images to the folder to annotate."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.datasets import read_dataset
from episodes.errors import UserError
from fewshot.inference.support import load_support_folder
from fewshot.select import SelectionRequest, select_images
from tests.episodes.made_dicom import SECRETS, write_dicom
from tests.fewshot.made_stores import picture
from tests.fewshot.select.conftest import Desk
from tests.fewshot.tiny_runs import silent

REQUEST = SelectionRequest("", 4, device="cpu")


def select(desk: Desk, *, overwrite: bool = False, **changes: Any) -> list[dict[str, str]]:
    """The rows of the table."""
    request = replace(REQUEST, **{"images": str(desk.scans), **changes})
    table = select_images(request, desk.describer, desk.folder / "out", silent(), overwrite=overwrite)
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def copies(desk: Desk) -> list[str]:
    return sorted(path.name for path in (desk.folder / "out" / "images").iterdir())


def test_the_table_ranks_images_and_says_how_many_each_stands_for(desk: Desk) -> None:
    rows = select(desk)
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert len({row["image"] for row in rows}) == 4
    assert sum(int(row["stands_for"]) for row in rows) == 6
    assert [float(row["share"]) for row in rows] == pytest.approx(
        [int(row["stands_for"]) / 6 for row in rows], abs=1e-4
    )


def test_a_smaller_budget_is_the_beginning_of_a_larger_one(desk: Desk) -> None:
    four = [row["image"] for row in select(desk)]
    assert [row["image"] for row in select(desk, overwrite=True, budget=2)] == four[:2]


def test_the_same_call_writes_the_same_files(desk: Desk) -> None:
    select(desk)
    first = {path.name: path.read_bytes() for path in (desk.folder / "out").rglob("*.*") if path.is_file()}
    select(desk, overwrite=True)
    assert first == {path.name: path.read_bytes() for path in (desk.folder / "out").rglob("*.*") if path.is_file()}


def test_copies_are_the_files_in_the_order_of_their_ranks(desk: Desk) -> None:
    rows = select(desk)
    assert copies(desk) == [row["file"] for row in rows]
    for row in rows:
        assert (desk.folder / "out" / "images" / row["file"]).read_bytes() == (desk.scans / row["image"]).read_bytes()
    with Image.open(desk.folder / "out" / "selected.png") as sheet:
        assert min(sheet.size) > 400


def test_masks_beside_the_copies_make_it_a_support_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk.folder / "cache"))
    desk.describe_patients("image,patient,spacing_mm\n" + "".join(f"{n},p{n % 3},0.1\n" for n in range(6)))
    rows = select(desk, budget=3)
    (desk.folder / "out" / "masks").mkdir()
    for row in rows:
        mask = np.zeros((64, 64), np.uint8)
        mask[20:40, 20:40] = 255
        Image.fromarray(mask).save(desk.folder / "out" / "masks" / row["file"])
    records = read_dataset("folder", desk.folder / "out")
    assert sorted(record.patient for record in records) == ["p0", "p1", "p2"]
    assert {record.spacing for record in records} == {(0.1, 0.1)}
    support = load_support_folder(desk.folder / "out", 64, shots=2)
    first_two = np.stack([np.asarray(Image.open(desk.scans / row["image"])) for row in rows[:2]])
    np.testing.assert_allclose(support.images[0, :, 0].numpy() * 255, first_two, atol=0.5)


def test_no_patient_is_asked_for_twice_while_there_are_others(desk: Desk) -> None:
    desk.describe_patients("image;patient\n0;a\n1;a\n2;a\n3;a\n4;b\n5;c\n")
    rows = select(desk)
    assert sorted(row["patient"] for row in rows[:3]) == ["a", "b", "c"]
    assert rows[3]["patient"] == "a"


def test_images_that_show_the_same_count_as_one_patient(desk: Desk) -> None:
    for number in range(3):
        desk.add(f"again/{number}.png", picture(0) // 2)
    rows = select(desk, budget=9)
    of_first_turn = {row["image"] for row in rows[:6]}
    assert sum(image in {"left/0.png", "again/0.png", "again/1.png", "again/2.png"} for image in of_first_turn) == 1


def test_images_labelled_normal_are_not_chosen(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.describe_patients("image,label\n" + "".join(f"{n},{'normal' if n < 4 else 'benign'}\n" for n in range(6)))
    with caplog.at_level(logging.INFO):
        rows = select(desk)
    assert sorted(row["image"] for row in rows) == ["right/4.png", "right/5.png"]
    assert "4 images are left out" in caplog.text
    assert "benign" in (desk.folder / "out" / "metadata.csv").read_text()


def test_all_normal_leaves_nothing_to_annotate(desk: Desk) -> None:
    desk.describe_patients("image,label\n" + "".join(f"{n},normal\n" for n in range(6)))
    with pytest.raises(UserError, match="labels every image normal"):
        select(desk)
    assert not (desk.folder / "out").exists()


def test_a_table_elsewhere_may_name_the_patients(desk: Desk) -> None:
    table = desk.folder / "patients.csv"
    table.write_text("image,patient\n" + "".join(f"{n}.png,p{n % 2}\n" for n in range(6)))
    assert {row["patient"] for row in select(desk, metadata=table, budget=2)} == {"p0", "p1"}


def test_dicom_is_told_apart_by_patient_and_copied_without_its_header(desk: Desk) -> None:
    for number in range(4):
        pixels = np.stack([picture(20 + number), picture(30 + number)])
        write_dicom(desk.scans / f"clip{number}.dcm", pixels, patient=f"HOSPITAL-7{number % 2}")
    rows = select(desk, images=str(desk.scans / "*.dcm"), budget=3)
    assert [row["patient"] for row in rows[:2]] in (["patient-001", "patient-002"], ["patient-002", "patient-001"])
    for row in rows:
        number = int(row["image"].removeprefix("clip").removesuffix(".dcm"))
        with Image.open(desk.folder / "out" / "images" / row["file"]) as copy:
            shown = np.asarray(copy)
        np.testing.assert_array_equal(shown, picture((20 if row["frame"] == "1" else 30) + number))
    written = b"".join(path.read_bytes() for path in (desk.folder / "out").rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret.encode() in written]


def test_what_cannot_be_read_is_left_out_and_said(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    (desk.scans / "left" / "note.png").write_text("not an image")
    rows = select(desk, budget=7)
    assert len(rows) == 6
    assert "1 of 7 images could not be read" in caplog.text
    assert "note.png" in caplog.text
    assert "6 images are all there are" in caplog.text


def test_nothing_readable_is_an_error(desk: Desk) -> None:
    for path in desk.scans.rglob("*.png"):
        path.write_text("not an image")
    with pytest.raises(UserError, match=r"none of 6 images can be read; the first: .*0\.png"):
        select(desk)


def test_many_images_are_described_as_few_are(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = select(desk)
    monkeypatch.setattr("fewshot.select._READ_AT_ONCE", 1)
    assert select(desk, overwrite=True) == whole


def test_a_folder_that_holds_something_is_not_written_to(desk: Desk) -> None:
    rows = select(desk)
    with pytest.raises(UserError, match=r"is not empty; .* --overwrite"):
        select(desk)
    own = desk.folder / "out" / "images" / "mine.png"
    own.write_bytes((desk.scans / rows[0]["image"]).read_bytes())
    with pytest.raises(UserError, match=r"holds mine\.png, which no selection wrote"):
        select(desk, overwrite=True)
    own.unlink()
    (desk.folder / "out" / "masks").mkdir()
    with pytest.raises(UserError, match="holds masks, which no selection wrote"):
        select(desk, overwrite=True)


def test_an_earlier_selection_within_the_images_is_not_chosen_from(desk: Desk) -> None:
    select_images(replace(REQUEST, images=str(desk.scans)), desk.describer, desk.scans / "out", silent())
    rows = select_images(
        replace(REQUEST, images=str(desk.scans)), desk.describer, desk.scans / "out", silent(), overwrite=True
    ).read_text()
    assert "out/" not in rows


def test_features_that_are_no_numbers_are_an_error(desk: Desk) -> None:
    describer = desk.describer
    next(iter(describer.encoder.parameters())).data.fill_(float("nan"))
    request = replace(REQUEST, images=str(desk.scans))
    with pytest.raises(UserError, match="its features are not finite"):
        select_images(request, describer, desk.folder / "out", silent())


def test_copies_of_equal_names_are_kept_apart(desk: Desk) -> None:
    desk.add("right/0.png", picture(40))
    rows = select(desk, budget=7)
    assert len(copies(desk)) == len({row["file"] for row in rows}) == 7
    assert Path(rows[0]["file"]).suffix == ".png"
