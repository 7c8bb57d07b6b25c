"""Runs of a folder that were logged offline, and how they get to the service."""

import logging
import shlex
from pathlib import Path

logger = logging.getLogger(__name__)


def waiting_runs(folder: Path) -> list[Path]:
    """The folders of runs that were logged offline and are not uploaded yet, anywhere below a folder."""
    offline = folder.rglob("wandb/offline-run-*")
    return sorted(run for run in offline if run.is_dir() and not any(run.glob("*.wandb.synced")))


def sync_command(folder: Path) -> str:
    """The command that uploads what waits below a folder.

    Trainings of a benchmark lie in folders of their own, which one pattern finds: `RUN/models/*/wandb/offline-run-*`.
    """
    below = {run.parent.relative_to(folder).parts for run in waiting_runs(folder)}
    patterns = {"/".join((*parts[:1], *"*" * (len(parts) - 2), *parts[1:][-1:], "offline-run-*")) for parts in below}
    return " ".join(["wandb sync", *(f"{shlex.quote(str(folder))}/{pattern}" for pattern in sorted(patterns))])


def say_what_waits(folder: Path) -> None:
    """Tell how the offline runs below a folder are uploaded, if there are any."""
    if waiting_runs(folder):
        logger.info("wandb: logged offline; to upload it: %s", sync_command(folder))
