"""`fewshot select` as a user calls it."""

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from tests.cli.conftest import Fewshot
from tests.fewshot.made_stores import picture
from tests.fewshot.predict.conftest import write_checkpoint


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for number in range(5):
        Image.fromarray(picture(number)).save(tmp_path / "scans" / f"{number}.png")
    return tmp_path / "scans"


def test_a_checkpoint_chooses_and_the_table_is_printed(fewshot: Fewshot, tmp_path: Path, scans: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "panet.safetensors", "panet")
    ended = fewshot("select", checkpoint, "--images", scans, "--budget", 2, "--out", tmp_path / "first")
    assert ended.status == 0, ended.err
    rows = list(csv.DictReader((tmp_path / "first" / "selected.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert rows[0]["image"] in ended.out
    assert ended.out.endswith(f"{tmp_path / 'first'}\n")
    assert "patients are not known" in ended.err


def test_an_encoder_by_name_needs_weights(fewshot: Fewshot, tmp_path: Path, scans: Path) -> None:
    missing = tmp_path / "none.safetensors"
    call = ("select", "--encoder", "resnet10t", "--images", scans, "--out", "first", "--weights")
    assert "none.safetensors" in fewshot(*call, missing).message
    ended = fewshot(*call, "none")
    assert ended.status == 2
    assert "random weights" in ended.message
    assert not Path("first").exists()
    network = timm.create_model("resnet10t")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, tmp_path / "w.safetensors")
    ended = fewshot(*call, tmp_path / "w.safetensors", "--image-size", 64, "--by", "k-centres")
    assert ended.status == 0, ended.err
    assert len((Path("first") / "selected.csv").read_text().splitlines()) == 1 + 5


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--images scans", 2, "give a checkpoint or --encoder, and not both"),
        ("a.safetensors --encoder resnet18 --images scans", 2, "give a checkpoint or --encoder, and not both"),
        ("a.safetensors --images scans", 1, "a.safetensors: no such checkpoint"),
        ("a.safetensors --images scans --budget 0", 2, "'--budget'"),
        ("a.safetensors --images scans --by size", 2, "'size' is not one of 'k-medoids', 'k-centres'"),
        ("panet.safetensors --images nowhere", 1, "nowhere: there is no such file or folder"),
        ("panet.safetensors --images scans --metadata none.csv", 1, "none.csv is missing"),
    ],
)
def test_wrong_words_are_said(
    fewshot: Fewshot, tmp_path: Path, scans: Path, arguments: str, status: int, message: str
) -> None:
    assert scans.is_dir()
    write_checkpoint(tmp_path / "panet.safetensors", "panet")
    ended = fewshot("select", *arguments.split(), "--out", "first")
    assert (ended.status, message in ended.message) == (status, True), ended.err
    assert not Path("first").exists()


def test_a_full_folder_is_said_before_anything_is_loaded(fewshot: Fewshot, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "first" / "mine.png")
    ended = fewshot("select", "no.safetensors", "--images", "nowhere", "--out", "first")
    assert "first: is not empty" in ended.message
