"""`fewshot data init`: what it says is what the reader does, and what it writes is what other commands take."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import write_bus_uclm, write_busi, write_folder, write_udiat
from episodes.phantoms.population import PhantomSpec, generate
from tests.cli.conftest import Fewshot
from tests.episodes.datasets.made_trees import save_image, save_mask, write_table
from tests.episodes.made_dicom import gradient, region, write_dicom


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Four images, of which one has no mask and one is labelled normal; a mask too many; no patients."""
    root = tmp_path / "clinic"
    for number, name in enumerate("abcd"):
        save_image(root / "images" / f"{name}.png", number)
    for name in ("a", "b", "z"):
        save_mask(root / "masks" / f"{name}.png")
    write_table(root / "metadata.csv", [("image", "label"), *((name, "benign") for name in "abc"), ("d", "normal")])
    return root


def test_what_was_understood(fewshot: Fewshot, clinic: Path) -> None:
    ended = fewshot("data", "init", clinic)
    assert ended.status == 0, ended.err
    understood, doubtful, further = ended.out.split("\n\n", 2)
    assert understood.splitlines() == [
        "clinic: images in images/, masks in masks/",
        "  images    3 (PNG 8 bit), 16 x 12 pixels",
        "  masks     2",
        "  lesions   2 in 2 images, none in 1",
        "  labels    1 normal, 2 benign (from metadata.csv)",
        "  patients  3 (none are named: every image counts as one)",
        "  spacing   not known: distances are in pixels",
    ]
    assert f"  - {clinic}/images/c.png: its mask c.png is missing; restore the mask or remove" in doubtful
    assert f"  - {clinic}/masks/z.png: left out: a mask without its image" in doubtful
    assert "every image counts as a patient of its own" in doubtful
    assert "add the column patient to metadata.csv" in doubtful
    assert yaml.safe_load(further.split("\n", 1)[1].split("\n\n")[0]) == {
        "datasets": {"clinic": {"reader": "folder", "root": str(clinic)}}
    }
    assert further.endswith(f"Next: fewshot data check {clinic} --dataset folder\n")


def test_a_configuration_that_other_commands_take(fewshot: Fewshot, tmp_path: Path) -> None:
    write_folder(generate(PhantomSpec("linear", n_images=24, size=64)), tmp_path / "mine")
    ended = fewshot("data", "init", "mine", "--name", "my clinic", "--out", "mine.yaml")
    assert ended.status == 0, ended.err
    assert ended.out.endswith("Written: mine.yaml\n\nNext: fewshot data split mine.yaml mine.split.json\n")
    assert fewshot("data", "split", "mine.yaml", "mine.split.json", "image_size=32").status == 0
    assert fewshot("episodes", "sample", "mine.yaml", "tasks.jsonl", "image_size=32", "--count", 3).status == 0
    named = json.loads((tmp_path / "tasks.jsonl").read_text().splitlines()[1])
    assert "my clinic/" in json.dumps(named)
    again = fewshot("data", "init", "mine", "--out", "mine.yaml")
    assert again.status == 1
    assert "mine.yaml: exists already; choose another name, so that nothing is overwritten" in again.message


@pytest.mark.parametrize(
    ("write", "reader"), [(write_busi, "busi"), (write_bus_uclm, "bus_uclm"), (write_udiat, "udiat")]
)
def test_known_datasets(fewshot: Fewshot, tmp_path: Path, write: object, reader: str) -> None:
    write(list(generate(PhantomSpec("linear", n_images=24, size=64))), tmp_path / "data")  # type: ignore[operator]
    ended = fewshot("data", "init", "data")
    assert ended.status == 0, ended.err
    assert ended.out.startswith(f"{reader}: the dataset {reader} in its own layout\n")
    assert f"reader: {reader}" in ended.out
    refused = fewshot("data", "init", "data", "--metadata")
    assert refused.status == 1
    assert f"data: holds {reader}, which has its own tables and reads no metadata.csv" in refused.message


def test_a_table_to_fill_in(fewshot: Fewshot, tmp_path: Path) -> None:
    for name, patient in (("a", "HOSPITAL-77"), ("b", "HOSPITAL-99")):
        facts = {"SequenceOfUltrasoundRegions": [region(0.02, 0.01)], "BurnedInAnnotation": "NO"}
        write_dicom(tmp_path / "mine" / "images" / f"{name}.dcm", gradient(), patient=patient, facts=facts)
        save_mask(tmp_path / "mine" / "masks" / f"{name}.png")
    write_dicom(tmp_path / "mine" / "images" / "clip.dcm", np.stack([gradient()] * 4), patient="HOSPITAL-77")
    save_mask(tmp_path / "mine" / "masks" / "clip-0002.png")
    save_image(tmp_path / "mine" / "images" / "unmasked.png")
    ended = fewshot("data", "init", "mine", "--metadata")
    assert ended.status == 0, ended.err
    assert "images    3 (DICOM 8 bit), 16 x 12 pixels" in ended.out
    assert "patients  2 (from DICOM, under pseudonyms)" in ended.out
    assert "spacing   known of 2 images: 0.1 to 0.2 mm per pixel" in ended.out
    assert "clips     1 of 4 frames, of which the 1 with a mask are images" in ended.out
    assert "1 DICOM images do not state that no name is written into the picture" in ended.out
    assert "left out: 3 frames of clip.dcm that have no mask" in ended.out
    table = tmp_path / "mine" / "metadata.csv"
    assert table.read_text().splitlines() == [
        "image,label,patient,spacing_mm",
        "a.dcm,,patient-001,0.1 x 0.2",
        "b.dcm,,patient-002,0.1 x 0.2",
        "clip-0002,,patient-001,",
        "unmasked.png,,,",
    ]
    table.write_text(table.read_text().replace("unmasked.png,", "unmasked.png,normal"))
    assert [record.patient for record in read_dataset("folder", tmp_path / "mine")] == [
        *("patient-001", "patient-002", "patient-001", "?unmasked")
    ]
    refused = fewshot("data", "init", "mine", "--metadata")
    assert refused.status == 1
    assert "metadata.csv: exists already; choose another name" in refused.message


def test_one_patient_for_all(fewshot: Fewshot, tmp_path: Path) -> None:
    for name in "ab":
        write_dicom(tmp_path / "mine" / f"{name}.dcm", gradient(), patient="ANONYMOUS")
        save_mask(tmp_path / "mine" / f"{name}_mask.png", size=(6, 8))
    ended = fewshot("data", "init", "mine")
    assert "all 2 images are of one patient (patient-001); nothing is left to test on" in ended.out
    assert "2 masks have another size than their image (first: a_mask.png): they are resized to it" in ended.out
    assert "2 images have no label, and their lesions are of unknown kind" in ended.out


def test_what_cannot_be_read(fewshot: Fewshot, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("empty",), "empty lacks the folders images/, masks/; give the folder that holds them, or one of images with"),
        (("nowhere",), "nowhere does not exist: give the folder that holds your images and masks"),
        (("empty", "--name", "-x"), "empty lacks the folders"),
    ):
        ended = fewshot("data", "init", *arguments)
        assert ended.status == 1
        assert message in ended.message
    save_image(tmp_path / "bare" / "images" / "a.png")
    (tmp_path / "bare" / "masks").mkdir()
    ended = fewshot("data", "init", "bare")
    assert ended.status == 1
    assert "bare/images/a.png: its mask a.png is missing" in ended.out
    assert "bare: none of its images can be used; mend what is listed above" in ended.message
