"""`fewshot data check`: what it prints and writes, and with which exit status it ends."""

import json
import shutil
from pathlib import Path

import pytest

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.cli.conftest import Fewshot

N_IMAGES = 6


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    """Phantoms, a picture that does not belong to them, and a mask that has lost its end."""
    root = tmp_path / "mine"
    write_folder(generate(PhantomSpec("linear", N_IMAGES, size=64)), root)
    (root / "notes").mkdir()
    shutil.copy(next((root / "images").iterdir()), root / "notes" / "screenshot.png")
    return root


def damage(root: Path) -> str:
    """Cut off a mask; returns its name."""
    mask = min((root / "masks").iterdir())
    mask.write_bytes(mask.read_bytes()[:-40])
    return mask.name


def test_a_table_of_counts_and_of_kinds(fewshot: Fewshot, phantoms: Path) -> None:
    ended = fewshot("data", "check", phantoms, "--dataset", "folder")
    assert ended.status == 0
    assert f"│ all       │ {N_IMAGES:>6} │" in ended.out
    assert "│ extra file " in ended.out
    assert "no record uses it" not in ended.out
    assert "left out" not in ended.err  # said once, in the table


def test_details(fewshot: Fewshot, phantoms: Path) -> None:
    ended = fewshot("data", "check", phantoms, "--dataset", "folder", "--details")
    assert "\nextra file: 1\n  notes/screenshot.png: no record uses it\n" in ended.out


def test_json_on_its_own(fewshot: Fewshot, phantoms: Path) -> None:
    ended = fewshot("data", "check", phantoms, "-d", "folder", "--json")
    report = json.loads(ended.out)
    assert report["root"] == str(phantoms)
    assert report["counts"]["images"]["here"] == N_IMAGES
    assert report["kinds"]["extra file"]["findings"] == 1
    assert {"kind": "extra file", "subjects": ["notes/screenshot.png"], "detail": "no record uses it"} in report[
        "findings"
    ]


def test_a_file_is_never_replaced_unasked(fewshot: Fewshot, phantoms: Path, tmp_path: Path) -> None:
    words = ("data", "check", phantoms, "-d", "folder", "--out", "found/check.json")
    first = fewshot(*words)
    assert first.status == 0
    assert "│ all " in first.out
    written = tmp_path / "found" / "check.json"
    assert written.read_text() == fewshot("data", "check", phantoms, "-d", "folder", "--json").out
    written.write_text("mine")
    refused = fewshot(*words)
    assert refused.status == 1
    assert "check.json: exists already; choose another name, or replace it with --overwrite" in refused.message
    assert written.read_text() == "mine"
    assert fewshot(*words, "--overwrite").status == 0
    assert json.loads(written.read_text())["dataset"] == "folder"


def test_only_strict_makes_an_exit_status_of_what_is_found(fewshot: Fewshot, phantoms: Path) -> None:
    words = ("data", "check", phantoms, "-d", "folder")
    assert fewshot(*words, "--strict").status == 0  # an extra file loses nothing
    name = damage(phantoms)
    assert fewshot(*words).status == 0
    ended = fewshot(*words, "--strict", "--details")
    assert ended.status == 1
    assert "truncated or damaged !" in ended.out
    assert f"masks/{name} cannot be decoded" in ended.out
