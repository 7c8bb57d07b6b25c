"""Commands killed with SIGKILL again and again end with the same bytes as undisturbed ones.

In the suite a few times, at points that are the same every time; `FEWSHOT_KILLS=200 pytest tests/survival` kills that
often. A failing test's name says where: its number seeds the points.
"""

import os
import re
import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.survival.children import ended, run, start
from tests.survival.pipeline import COMMANDS, Stage, contents

KILLED = -9
IN_A_ROW = 3
_TESTS = 2 * len(COMMANDS)
TRIALS = max(1, int(os.environ.get("FEWSHOT_KILLS", _TESTS * IN_A_ROW)) // (_TESTS * IN_A_ROW))

every_command = pytest.mark.parametrize("command", COMMANDS)
every_trial = pytest.mark.parametrize("trial", range(TRIALS))


@every_command
@every_trial
def test_killed_between_changes_to_files(
    command: str, trial: int, undisturbed: dict[str, Stage], tmp_path: Path
) -> None:
    """Just before a file is opened, renamed or removed, or a folder is made."""
    stage, random = undisturbed[command], Random(f"changes {command} {trial}")  # noqa: S311
    folder = stage.begin(tmp_path / "killed")
    points = []
    for _ in range(IN_A_ROW):
        points.append(random.randint(1, stage.ended.events))
        killed = stage.run(folder, kill_at=points[-1])
        assert killed.status in {0, KILLED}, f"killed before changes {points}:\n{killed.said}"
    _assert_ends_undisturbed(stage, folder, f"killed before changes {points}")


@pytest.mark.parametrize(
    "command", [name if name == "train" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
@every_trial
def test_killed_at_any_time(command: str, trial: int, undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    """Also while a file is being written."""
    stage, random = undisturbed[command], Random(f"time {command} {trial}")  # noqa: S311
    folder = stage.begin(tmp_path / "killed")
    points = []
    for _ in range(IN_A_ROW):
        points.append(round(random.uniform(0, stage.ended.seconds), 3))
        killed = stage.run(folder, kill_after=points[-1])
        assert killed.status in {0, KILLED}, f"killed after seconds {points}:\n{killed.said}"
    _assert_ends_undisturbed(stage, folder, f"killed after seconds {points}")


@pytest.mark.slow
def test_a_killed_worker_ends_the_command_which_goes_on(undisturbed: dict[str, Stage], tmp_path: Path) -> None:
    """One of two processes that compute side by side, as the system kills where memory runs out."""
    stage = undisturbed["benchmark"]
    folder = stage.begin(tmp_path / "killed")
    process = start(folder, *COMMANDS["benchmark"], "processes=2")
    while not (at_work := _spawned(process.pid)) or not list(folder.rglob("*.jsonl")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(at_work[-1], signal.SIGKILL)
    killed = ended(folder, process)
    assert killed.status == 1
    assert killed.said.splitlines()[-1].startswith("fewshot: processes: one of 2 was ended from outside")
    assert "Traceback" not in killed.said
    again = run(folder, *COMMANDS["benchmark"], "processes=2")
    assert again.status == 0, again.said
    assert _unmeasured(contents(folder)) == _unmeasured(stage.contents)


def _unmeasured(files: dict[str, bytes]) -> dict[str, bytes]:
    """Files but for those that tell seconds, which stand still in one process alone, or the number of processes."""
    return {name: content for name, content in files.items() if not _MEASURED.search(name)}


_MEASURED = re.compile(r"cells/.*\.json$|costs|seconds|config\.yaml|report|summary|tables|figures")


def _spawned(process: int | None) -> list[int]:
    """Which processes a process has spawned to compute."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"spawn_main" in command]


def _assert_ends_undisturbed(stage: Stage, folder: Path, how: str) -> None:
    ended = stage.run(folder)
    assert ended.status == 0, f"{how}:\n{ended.said}"
    try:
        stage.assert_complete(folder)
    except AssertionError as error:
        raise AssertionError(f"{how}: {error}") from error
