"""What a DICOM file says of a person is in no byte that any command writes or prints."""

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Fewshot
from tests.episodes.datasets.made_trees import save_mask
from tests.episodes.made_dicom import SECRETS, gradient, write_dicom


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    root = tmp_path / "clinic"
    for number in range(6):
        picture = np.roll(gradient(48, 64), 9 * number, axis=1)
        patient = f"HOSPITAL-77-{number // 2}"
        write_dicom(root / "images" / f"scan{number}.dcm", picture, patient=patient)
        save_mask(root / "masks" / f"scan{number}.png", (5, 5, 20 + number, 25), size=(48, 64))
    write_dicom(root / "images" / "clip.dcm", np.stack([gradient(48, 64)] * 3), patient="HOSPITAL-77-9")
    save_mask(root / "masks" / "clip-0002.png", (5, 5, 30, 30), size=(48, 64))
    return root


def test_no_command_passes_on_who_it_is(
    fewshot: Fewshot, clinic: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sources = set(clinic.rglob("*.dcm"))
    cache = ["--cache", "cache"]
    commands = [
        ["init", "clinic", "--metadata", "--out", "clinic.yaml"],
        ["check", "clinic", "--dataset", "folder", "--details"],
        ["check", "clinic", "--dataset", "folder", "--out", "check.json"],
        ["prepare", "clinic", "--dataset", "folder", "--size", "32", *cache],
        ["show", "clinic", "--dataset", "folder", "--out", "shown"],
        ["split", "clinic.yaml", "split.json", "image_size=32", "cache=cache", "--parts", "a=0.5,b=0.5"],
    ]
    printed = []
    for command in commands:
        ended = fewshot("data", *command)
        assert ended.status == 0, ended.err
        printed.append(ended.out + ended.err)
    damaged = clinic / "images" / "scan0.dcm"
    whole = damaged.read_bytes()
    for content in (whole[:300], whole[:-900], whole.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00PN")):
        damaged.write_bytes(content)
        for command in (["init", "clinic"], *commands[1:4]):
            ended = fewshot("data", *command, "--debug")
            printed.append(ended.out + ended.err)
    assert sum("Traceback" in text for text in printed) >= 3  # with --debug it is shown where errors come from
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in sources]
    assert {path.suffix for path in written} >= {".json", ".npy", ".csv", ".yaml", ".png"}
    haystack = b"\n".join([*(path.read_bytes() for path in written), *map(str.encode, printed), caplog.text.encode()])
    assert b"patient-001" in haystack
    for secret in SECRETS:
        assert secret.encode() not in haystack
        assert secret.encode("utf-16-le") not in haystack
