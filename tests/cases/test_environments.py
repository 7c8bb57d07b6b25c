"""Computers that lack what most have: a home, a place for the cache, locks, an output in UTF-8."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.cases.conftest import Fewshot
from tests.fewshot.predict.conftest import write_checkpoint

ROOT = Path(__file__).parents[2]

# What Python runs first: a user whom nobody knows, and a file system without locks.
CUSTOM = """
import fcntl, os, pwd
def unknown(*_): raise KeyError("unknown user")
if not os.environ.get("HOME"): pwd.getpwuid = pwd.getpwnam = unknown
def refuse(*_): raise OSError(int(os.environ["NOLOCK"]), "no locks")
if os.environ.get("NOLOCK"): fcntl.flock = fcntl.lockf = refuse
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `set` of four annotated images whose names are not ASCII, and `unet.safetensors`."""
    folder = tmp_path_factory.mktemp("désk")
    write_folder(
        [one for one in generate(PhantomSpec("portable", 8, size=64)) if one.label_map.any()][:4], folder / "set"
    )
    for path in (*(folder / "set" / "images").iterdir(), *(folder / "set" / "masks").iterdir()):
        path.rename(path.with_name(f"läsion-ж-{path.name}"))
    (folder / "set" / "metadata.csv").unlink()
    write_checkpoint(folder / "unet.safetensors", "unet")
    (folder / "custom").mkdir()
    (folder / "custom" / "sitecustomize.py").write_text(CUSTOM)
    return folder


def run(desk: Path, tmp: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    temporary = tmp / "tmp"
    temporary.mkdir(exist_ok=True)
    given = {"PYTHONPATH": f"{desk / 'custom'}:{ROOT}", "TMPDIR": str(temporary), "COLUMNS": "200", **environment}
    command = [sys.executable, "-m", "fewshot", *arguments]
    return subprocess.run(  # noqa: S603
        command, cwd=desk, env=given, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=300
    )


def commands(tmp: Path) -> list[tuple[str, ...]]:
    data = ("set", "--dataset", "folder")
    return [
        ("data", "check", *data, "--details"),
        ("data", "prepare", *data, "--size", "64"),
        (
            "evaluate",
            "unet.safetensors",
            "--data",
            *data,
            "--name",
            "ours",
            "--part",
            "all",
            "--out",
            str(tmp / "judged"),
        ),
        ("predict", "unet.safetensors", "--images", "set/images", "--out", str(tmp / "masks")),
        ("export", "unet.safetensors", "--out", str(tmp / "model.onnx")),
    ]


ENVIRONMENTS = {
    "env_no_home": {"LC_ALL": "C"},
    "env_readonly_home": {"HOME": "/dev/null/home"},
    "env_no_locks": {"HOME": "home", "NOLOCK": str(errno.ENOLCK)},
    "env_ascii_output": {"HOME": "home", "PYTHONIOENCODING": "ascii"},
    "env_cp1252_output": {"HOME": "home", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "cp1252"},
}


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("env_no_home", slice(None)),
        pytest.param("env_readonly_home", slice(1, None), marks=pytest.mark.slow),
        ("env_no_locks", slice(1, 4)),
        ("env_ascii_output", slice(3)),
        pytest.param("env_cp1252_output", slice(3), marks=pytest.mark.slow),
    ],
)
def test_every_command_works_with_one_warning_at_most(desk: Path, tmp_path: Path, name: str, needed: slice) -> None:
    environment = dict(ENVIRONMENTS[name])
    if environment.get("HOME") == "home":
        environment["HOME"] = str(tmp_path / "home")
    for arguments in commands(tmp_path)[needed]:
        ended = run(desk, tmp_path, *arguments, **environment)
        assert ended.returncode == 0, ended.stderr
        assert "UnicodeEncodeError" not in ended.stderr
        warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning: ")]
        needs_cache = arguments[:2] == ("data", "prepare") or arguments[0] == "evaluate"
        if needs_cache and "home" in name:
            assert ["fewshot-bus-" in line for line in warnings] == [True], ended.stderr
            (kept,) = (tmp_path / "tmp").glob("fewshot-bus-*/stores")
            assert kept.parent.stat().st_mode & 0o077 == 0
        elif name == "env_no_locks" and arguments[1] != "check":
            assert sum("keeps no locks" in line for line in warnings) <= 1


def test_what_is_asked_for_is_not_replaced(fewshot: Fewshot, desk: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (
        ("data", "prepare", desk / "set"),
        ("evaluate", desk / "unet.safetensors", "--data", desk / "set"),
    ):
        more = ("--name", "ours", "--part", "all", "--out", "out") if arguments[0] == "evaluate" else ()
        ended = fewshot(*arguments, "-d", "folder", "--cache", tmp_path / "file" / "cache", *more)
        assert ended.status == 1
        assert "cannot be written" in ended.message


def test_a_temporary_folder_of_somebody_else_is_not_used(desk: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"fewshot-bus-{os.getuid()}").mkdir(parents=True)
    (tmp_path / "tmp" / f"fewshot-bus-{os.getuid()}").chmod(0o777)
    ended = run(desk, tmp_path, "data", "prepare", "set", "-d", "folder", "--size", "64", HOME="/dev/null")
    assert ended.returncode == 0, ended.stderr
    assert not list((tmp_path / "tmp" / f"fewshot-bus-{os.getuid()}").iterdir())
    assert str(tmp_path / "tmp" / "fewshot-bus-") in ended.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_output_cannot_show_are_replaced(desk: Path, tmp_path: Path, encoding: str) -> None:
    shutil.copytree(desk / "set", tmp_path / "жset")
    next((tmp_path / "жset" / "masks").iterdir()).unlink()
    given = {"HOME": str(tmp_path), "PYTHONIOENCODING": encoding}
    ended = run(desk, tmp_path, "data", "check", str(tmp_path / "жset"), "-d", "folder", "--details", **given)
    assert ended.returncode == 0, ended.stderr
    assert "?set" in ended.stdout
