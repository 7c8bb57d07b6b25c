"""Commands killed with SIGKILL again and again end with the same bytes as undisturbed ones.

In the suite a few times, at points that are the same every time; `FEWSHOT_KILLS=200 pytest tests/survival` kills that
often. A failing test's name says where: its number seeds the points.
"""

import os
from pathlib import Path
from random import Random

import pytest

from tests.survival.pipeline import COMMANDS, Stage

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


def _assert_ends_undisturbed(stage: Stage, folder: Path, how: str) -> None:
    ended = stage.run(folder)
    assert ended.status == 0, f"{how}:\n{ended.said}"
    try:
        stage.assert_complete(folder)
    except AssertionError as error:
        raise AssertionError(f"{how}: {error}") from error
