"""wandb without a network, and its offline files as its own reader shows them."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No login, no variable of the user's, nothing in the user's home, and no request to the service."""
    with offline_at(tmp_path_factory.mktemp("home")):
        yield


@contextmanager
def offline_at(home: Path) -> Iterator[None]:
    """The same for as long as the block runs, with a home of its own."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            environment.delenv(name)
        environment.setenv("HOME", str(home))
        environment.setenv("NETRC", str(home / "netrc"))
        environment.setenv("WANDB_CONFIG_DIR", str(home / "config"))
        environment.setenv("WANDB_MODE", "offline")
        yield
        if sys.modules.get("wandb") is not None:
            sys.modules["wandb"].teardown()  # its settings are those of the first environment that it saw


@dataclass(frozen=True)
class Logged:
    """A run as it was logged.

    Attributes:
        folder: its own.
        record: what it is: `display_name`, `run_id`, `run_group`, `job_type`, `project`.
        config: its configuration.
        history: what was logged, step by step.
        summary: what it ended with; parts of a value by dotted names.
        exit_code: 0 if it ended well.
    """

    folder: Path
    record: dict[str, Any]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    exit_code: int

    @property
    def name(self) -> str:
        name: str = self.record["display_name"]
        return name

    def table(self, key: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        content = json.loads((self.folder / "files" / self.summary[f"{key}.path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def folders_of(folder: Path) -> list[Path]:
    """The folders of all runs that were logged offline, in the order of time."""
    return sorted(folder.glob("wandb/offline-run-*"), key=lambda run: run.stat().st_mtime_ns)


def read_run(folder: Path) -> Logged:
    """Read a run by `wandb leet inspect`."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()  # noqa: S603
    found: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, lines):
        found.setdefault(line["type"], []).append(line[line["type"]])
    (record,) = found["run"]
    summary: dict[str, Any] = {}
    for update in found.get("summary", []):
        summary |= update.get("update", {})
    return Logged(
        folder,
        record,
        {name: value for name, value in record["config"]["update"].items() if name != "_wandb"},
        [_ours(one["item"]) for one in found.get("history", [])],
        _ours(summary),
        found["exit"][0].get("exit_code", 0),
    )


def read_only_run(folder: Path) -> Logged:
    """The only run that was logged to a folder."""
    (run,) = folders_of(folder)
    return read_run(run)


def _ours(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name == "_step" or not name.startswith("_")}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the toolkit itself warned of; wandb's own log lines are its own affair."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("fewshot") and record.levelno >= logging.WARNING
    ]
