"""Which runs of a folder are in wandb already, so that repeating a command logs nothing twice."""

import json
from contextlib import suppress
from pathlib import Path

from episodes.files import write_text
from fewshot.tracking.wandb_account import wandb_folder, wandb_project


class LoggedRuns:
    """The index `wandb/logged.json` of a run's folder: names by id, by project.

    One that cannot be read or written costs a run that is logged again, under the same id, and never an error.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = wandb_folder(folder) / "logged.json"
        self.project = wandb_project()

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._read().get(self.project, {})

    def add(self, run_id: str, name: str) -> None:
        """Remember a run that was logged to its end."""
        projects = self._read()
        projects.setdefault(self.project, {})[run_id] = name
        with suppress(OSError):
            write_text(self.path, json.dumps(projects, indent=1) + "\n")

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
