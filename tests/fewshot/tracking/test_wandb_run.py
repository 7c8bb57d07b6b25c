"""A run of wandb, and that nothing wandb does fails what it listens to."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from fewshot.tracking.wandb_run import SETTINGS, RunFacts, WandbRun, wandb_run
from tests.fewshot.tracking.offline_wandb import folders_of, read_only_run, warnings_of

FACTS = RunFacts("abc", "a name", "a group", "train", {"model": {"levels": [1, 2]}, "seed": 0})
COMPLETE_WITHOUT = "the results are complete without it"


class Abrupt(BaseException):
    """Not an `Exception`, as some of what libraries raise."""


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


def use(folder: Path) -> WandbRun:
    with wandb_run(folder, FACTS) as run:
        for step in (1, 2, 3):
            run.log(step, {"loss": 1 / step})
        run.summarise({"kept_step": 3, "undefined": float("nan"), "missing": None})
    return run


def test_a_run_is_read_back_as_it_was_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = use(tmp_path)
    assert run.complete
    logged = read_only_run(tmp_path)
    expected = {"display_name": "a name", "run_id": "abc", "run_group": "a group", "job_type": "train"}
    assert {name: logged.record[name] for name in expected} == expected
    assert logged.record["project"] == "fewshot-bus"
    assert logged.config == FACTS.config
    assert logged.history == [{"_step": step, "loss": 1 / step} for step in (1, 2, 3)]
    assert logged.summary["kept_step"] == 3
    assert not {"undefined", "missing"} & logged.summary.keys()
    assert logged.exit_code == 0
    assert not warnings_of(caplog)


def test_nothing_is_said_of_the_machine(tmp_path: Path) -> None:
    use(tmp_path)
    logged = read_only_run(tmp_path)
    assert not {"git", "host"} & logged.record.keys()
    assert [path for path in (logged.folder / "files").rglob("*") if path.is_file()] == []


def test_a_run_whose_block_fails_has_failed(tmp_path: Path) -> None:
    def interrupted() -> None:
        with wandb_run(tmp_path, FACTS) as run:
            run.log(1, {"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_only_run(tmp_path).exit_code == 1


def test_another_run_that_is_open_stays_open(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with wandb.init(project="theirs", dir=str(tmp_path / "theirs")) as theirs:
        use(tmp_path / "ours")
        theirs.log({"alive": 1})
    assert read_only_run(tmp_path / "theirs").summary["alive"] == 1


@pytest.mark.parametrize("error", [RuntimeError("no room\nin detail"), wandb.errors.CommError("no room"), Abrupt()])
def test_a_wandb_that_does_not_start_costs_one_warning(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb, "init", raising(error))
    run = use(tmp_path)
    assert not run.complete
    reason = "Abrupt" if isinstance(error, Abrupt) else "no room"
    assert warnings_of(caplog) == [f"wandb: {reason}; {COMPLETE_WITHOUT}"]


@pytest.mark.parametrize("what", ["log", "finish"])
def test_a_wandb_that_fails_on_the_way_costs_one_warning(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb.Run, what, raising(OSError("broken")))
    run = use(tmp_path)
    assert not run.complete
    assert warnings_of(caplog) == [f"wandb: broken; {COMPLETE_WITHOUT}"]


def test_an_interruption_is_none_of_its_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "init", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        use(tmp_path)


def test_a_mode_that_there_is_not_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    assert not use(tmp_path).complete
    assert len(warnings_of(caplog)) == 1


def test_an_empty_mode_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    assert use(tmp_path).complete
    assert len(folders_of(tmp_path)) == 1


def test_a_disabled_wandb_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not use(tmp_path).complete
    assert not list(tmp_path.iterdir())
    assert not warnings_of(caplog)


def test_an_unreachable_service_costs_one_warning_and_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setitem(SETTINGS, "init_timeout", 1.5)
    began = time.monotonic()
    assert not use(tmp_path).complete
    (warning,) = warnings_of(caplog)
    assert warning.endswith(COMPLETE_WITHOUT)
    assert time.monotonic() - began < 60  # it would be 1.5 s, and forever if it were not bounded
