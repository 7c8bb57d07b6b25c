"""Disks that are full or read-only: one line, nothing half-written, and the same command goes on once there is room."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.survival.children import call_fewshot, ended, in_child
from tests.survival.pipeline import COMMANDS, Stage, contents
from tests.survival.small_disk import fill_up, make_read_only, needed, try_mount

GROWS = "metrics.jsonl"
CONTINUES = "state.safetensors"  # there until a training has ended

slow = pytest.mark.slow
# At once, in the middle, and near the end.
ROOMS = [("prepare", 0.5), ("train", 0), ("benchmark", 0.6), ("report", 0.3)]
MORE_ROOMS = [(command, share) for command in COMMANDS for share in (0.1, 0.2, 0.4, 0.7, 0.8, 0.95)]


@pytest.fixture(scope="session")
def mountable(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no file system can be mounted."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    folder = tmp_path_factory.mktemp("mount")
    process = in_child(try_mount, folder, folder)
    if (said := ended(folder, process)).status:
        reason = (said.said.splitlines() or ["no reason given"])[-1]
        pytest.skip(f"no file system can be mounted here ({reason})")


@pytest.mark.usefixtures("mountable")
@pytest.mark.parametrize(("command", "share"), [*ROOMS, *(pytest.param(*room, marks=slow) for room in MORE_ROOMS)])
def test_a_full_disk(command: str, share: float, undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    stage = undisturbed[command]
    new = [content for name, content in stage.contents.items() if not (stage.before / name).is_file()]
    disk, report = tmp_path / "disk", tmp_path / "report"
    disk.mkdir()
    report.mkdir()
    room = int(share * needed(new))
    process = in_child(fill_up, disk, stage.before, disk, report, room, partial(call_fewshot, COMMANDS[command]))
    assert_mended(stage, ended(disk, process).said, report, "full", "No space left on device", "free some")


@pytest.mark.usefixtures("mountable")
@pytest.mark.parametrize(
    "command", ["prepare", "train", *(pytest.param(name, marks=slow) for name in ("benchmark", "report"))]
)
def test_a_read_only_disk(command: str, undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    stage = undisturbed[command]
    disk, report = tmp_path / "disk", tmp_path / "report"
    disk.mkdir()
    report.mkdir()
    process = in_child(make_read_only, disk, stage.before, disk, report, partial(call_fewshot, COMMANDS[command]))
    said = ended(disk, process).said
    assert_mended(stage, said, report, "read-only", "Read-only file system", "choose a place that can be written to")
    assert contents(report / "read-only") == contents(stage.before)


def assert_mended(stage: Stage, said: str, report: Path, name: str, reason: str, advice: str) -> None:
    """The first call said what is wrong and left nothing half-written; the second ended as undisturbed."""
    statuses = json.loads((report / "statuses.json").read_text())
    assert statuses == [1, 0], said
    complaints = [line for line in said.splitlines() if line.startswith("fewshot: ")]
    assert len(complaints) == 1, said
    assert reason in complaints[0]
    assert advice in complaints[0]
    assert "Traceback" not in said
    assert "Error" not in said
    for file, content in contents(report / name).items():
        if any(part.startswith(".") for part in Path(file).parts) or Path(file).name == CONTINUES:
            continue  # nobody takes these for results
        whole = stage.contents[file]
        assert content == (whole[: len(content)] if Path(file).name == GROWS else whole), f"{file} is half-written"
    stage.assert_complete(report / "complete")
