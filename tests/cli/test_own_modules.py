"""Modules in the working directory: never instead of a library, and found where the user names them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = ("numpy", "torch", "yaml", "PIL", "scipy", "safetensors", "typer", "pydantic", "json", "pathlib", "wandb")
PLANTED = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
READER = """
from pathlib import Path

from episodes.datasets import folder

Path(__file__).with_suffix(".ran").touch()


def read(root):
    return folder.read(root)
"""
SCRIPT = Path(sys.executable).with_name("fewshot")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A dataset's folder, beside whose images modules lie that note that they were imported."""
    from episodes.phantoms.layouts import write_folder
    from episodes.phantoms.population import PhantomSpec, generate

    write_folder(generate(PhantomSpec("portable", 3, size=64)), tmp_path / "set")
    for name in LIBRARIES:
        (tmp_path / "set" / f"{name}.py").write_text(PLANTED)
    (tmp_path / "set" / "my_reader.py").write_text(READER)
    return tmp_path / "set"


def run(command: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command in a folder; which modules there were imported is returned, too."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    environment.pop("PYTHONPATH", None)
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)  # noqa: S603
    return ended, sorted(path.stem for path in folder.glob("*.ran"))


@pytest.mark.parametrize("program", [[str(SCRIPT)], [sys.executable, "-m", "fewshot"]], ids=["script", "module"])
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["data", "check", ".", "--dataset", "folder"], 0),
        (["data", "check", ".", "--dataset", "nothing_such:read"], 2),
        (["train", "absent.yaml"], 2),
    ],
    ids=["help", "check", "absent", "train"],
)
def test_nothing_beside_the_data_runs(planted: Path, program: list[str], words: list[str], status: int) -> None:
    ended, ran = run([*program, *words], planted)
    assert (ended.returncode, ran) == (status, []), ended.stderr


def test_a_reader_of_ones_own_is_found_and_nothing_else_runs(planted: Path) -> None:
    ended, ran = run([str(SCRIPT), "data", "check", ".", "--dataset", "my_reader:read"], planted)
    assert (ended.returncode, ran) == (0, ["my_reader"]), ended.stderr
