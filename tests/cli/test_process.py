"""The command line as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

from tests.test_layers import HEAVY

ROOT = Path(__file__).parents[2]


def run(*arguments: str, folder: Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "fewshot", *arguments]
    environment = {
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HOME": str(folder),
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)  # noqa: S603


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    ended = run("--help", folder=tmp_path, python=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert ended.returncode == 0
    assert "benchmark" in ended.stdout
    assert "fewshot.cli" in imported
    assert not imported & (HEAVY | {"numpy", "pyarrow", "pydantic", "scipy", "sklearn"})


def test_errors_go_to_stderr_with_the_status_of_their_kind(tmp_path: Path) -> None:
    wrong = run("train", "missing.yaml", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("fewshot: missing.yaml: cannot be read")
    assert len(wrong.stderr.splitlines()) == 1
    failed = run("data", "check", "missing", "--dataset", "folder", folder=tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("fewshot: missing does not exist")
    misspelt = run("trian", folder=tmp_path)
    assert misspelt.returncode == 2
    assert "No such command 'trian'" in misspelt.stderr
    shown = run("train", "missing.yaml", "--debug", folder=tmp_path)
    assert shown.returncode == 2
    assert "Traceback" in shown.stderr


def test_what_one_command_writes_the_next_one_reads(tmp_path: Path) -> None:
    generated = run("data", "generate", "mine", "--scanner", "highfreq", "--images", "3", folder=tmp_path)
    assert (generated.returncode, generated.stdout) == (0, "mine\n"), generated.stderr
    checked = run("data", "check", "mine", "--dataset", "folder", "--json", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["counts"]["images"]["here"] == 3
