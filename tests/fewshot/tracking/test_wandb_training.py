"""Trainings in wandb: what they log equals the local log, live, after an interruption and when they have ended."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb

from episodes.storage.store import Collection
from fewshot.config.training import TrackingConfig, TrainConfig
from fewshot.terminal import Reporter, Update
from fewshot.tracking.wandb_run import training_listener
from fewshot.training.run import train as train_model
from fewshot.training.run import training_facts
from tests.fewshot.small_networks import train_config
from tests.fewshot.tiny_runs import silent
from tests.fewshot.tracking.offline_wandb import folders_of, read_only_run, read_run, warnings_of

STEPS = [1, 2, 3, 4]


def tracked(**changes: Any) -> TrainConfig:
    config = train_config("unet", steps=len(STEPS), save_every=2, **changes)
    return config.model_copy(update={"tracking": TrackingConfig(to="wandb")})


def train(
    config: TrainConfig, folder: Path, reporter: Reporter, collection: Collection, group: str | None = None
) -> Path:
    """Train as the command line does."""
    return train_model(config, folder, reporter, collection, group, training_listener(config.tracking))


def local(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{"_step": line.pop("step"), **line} for line in lines]


class Interrupting(Reporter):
    """Interrupts the training after its third step."""

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        def update(done: int, total: int, note: str = "") -> None:
            if done == 3:
                raise KeyboardInterrupt

        yield update


def test_a_training_logs_what_its_local_file_holds(linear_phantoms: Collection, tmp_path: Path) -> None:
    config = tracked(validation={"share": 0.4, "every": 2})
    train(config, tmp_path, silent(), linear_phantoms)
    run = read_only_run(tmp_path)
    assert run.history == local(tmp_path)
    assert run.name == "unet"
    assert run.config["train"]["steps"] == len(STEPS)
    assert run.config["sources"] == ["linear"]
    assert run.summary["kept_step"] in {2, 4}
    assert (run.record["job_type"], run.record["run_group"]) == ("train", "unet")


def test_the_group_is_what_the_training_is_for(linear_phantoms: Collection, tmp_path: Path) -> None:
    train(tracked(), tmp_path, silent(), linear_phantoms, group="a benchmark")
    assert read_only_run(tmp_path).record["run_group"] == "a benchmark"


def test_a_training_that_goes_on_logs_all_of_its_steps(linear_phantoms: Collection, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tracked(), tmp_path, Interrupting(silent().console), linear_phantoms)
    train(tracked(), tmp_path, silent(), linear_phantoms)
    first, second = map(read_run, folders_of(tmp_path))
    assert [line["_step"] for line in first.history] == [1, 2, 3]
    assert second.history == local(tmp_path)
    assert [line["_step"] for line in second.history] == STEPS
    assert first.record["run_id"] == second.record["run_id"]  # so that the second replaces the first


def test_a_training_that_has_ended_is_logged_once(linear_phantoms: Collection, tmp_path: Path) -> None:
    train(tracked().model_copy(update={"tracking": TrackingConfig()}), tmp_path, silent(), linear_phantoms)
    assert not (tmp_path / "wandb").exists()
    for _ in range(2):
        train(tracked(), tmp_path, silent(), linear_phantoms)
    run = read_only_run(tmp_path)
    assert run.history == local(tmp_path)
    assert run.summary["kept_step"] == 4


def test_a_training_that_was_logged_live_is_not_logged_again(linear_phantoms: Collection, tmp_path: Path) -> None:
    for _ in range(2):
        train(tracked(), tmp_path, silent(), linear_phantoms)
        assert len(folders_of(tmp_path)) == 1


def test_other_projects_do_not_know_it(
    linear_phantoms: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for project in ("fewshot-bus", "another"):
        monkeypatch.setenv("WANDB_PROJECT", project)
        train(tracked(), tmp_path, silent(), linear_phantoms)
    assert [read_run(run).record["project"] for run in folders_of(tmp_path)] == ["fewshot-bus", "another"]


def test_of_several_processes_the_first_logs(
    linear_phantoms: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    train(tracked(), tmp_path, silent(), linear_phantoms)
    assert not (tmp_path / "wandb").exists()


def test_a_training_that_does_not_ask_for_wandb_does_not_import_it(
    linear_phantoms: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it is an error
    train(train_config("unet", steps=1), tmp_path, silent(), linear_phantoms)
    assert not (tmp_path / "wandb").exists()


def test_without_the_library_a_training_ends_with_a_warning(
    linear_phantoms: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert train(tracked(), tmp_path, silent(), linear_phantoms).is_file()
    (warning,) = warnings_of(caplog)
    assert warning.startswith("wandb: ")


@pytest.mark.parametrize("what", ["log", "finish"])
def test_a_failing_wandb_changes_nothing_of_a_training(
    what: str,
    linear_phantoms: Collection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise wandb.errors.UsageError("broken")

    monkeypatch.setattr(wandb.Run, what, fail)
    checkpoint = train(tracked(), tmp_path / "failing", silent(), linear_phantoms)
    plain = train(train_config("unet", steps=4, save_every=2), tmp_path / "plain", silent(), linear_phantoms)
    assert checkpoint.read_bytes() == plain.read_bytes()
    assert local(tmp_path / "failing") == local(tmp_path / "plain")
    assert warnings_of(caplog) == ["wandb: broken; the results are complete without it"]


def test_where_metrics_go_is_no_part_of_a_trainings_facts() -> None:
    assert training_facts(tracked()) == training_facts(train_config("unet", steps=len(STEPS), save_every=2))
