"""Saving a report with wandb, which needs a login and the service."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from episodes.errors import UserError
from episodes.files import write_text
from fewshot.results.summary import Row
from fewshot.tracking.wandb_account import logged_in, wandb_environment, wandb_folder, wandb_project
from fewshot.tracking.wandb_offline import sync_command, waiting_runs
from fewshot.tracking.wandb_report import build_report

logger = logging.getLogger(__name__)


def publish_report(folder: Path, benchmark: str, rows: Sequence[Row], headline: str) -> str:
    """Save a report about a benchmark that was logged; a second call replaces it.

    Args:
        folder: of the run.
        benchmark: the group of its runs.
        rows: of the benchmark.
        headline: the answer, in a sentence.

    Returns:
        Where it is.

    Raises:
        UserError: without a login, without the library of reports, or where the service does not answer.
    """
    build_report("nobody", wandb_project(), benchmark, rows, headline)  # what is not installed is known before
    with wandb_environment(folder):
        if not logged_in():
            raise UserError(
                "wandb: there is no login, which a report needs; run `wandb login`, then this command again"
                + (f"; the runs were logged offline, so upload them: {sync_command(folder)}" if _waits(folder) else "")
            )
        if _waits(folder):
            logger.warning("wandb: runs that are not uploaded are missing in the report: %s", sync_command(folder))
        try:
            return _save(folder, benchmark, rows, headline)
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise UserError(f"wandb: the report was not saved ({reason}); see `wandb status`, and try again") from error


def _waits(folder: Path) -> bool:
    return bool(waiting_runs(folder))


def _save(folder: Path, benchmark: str, rows: Sequence[Row], headline: str) -> str:
    import wandb

    entity = os.environ.get("WANDB_ENTITY") or wandb.Api().default_entity
    if entity is None:
        raise UserError("the login belongs to no user or team; set WANDB_ENTITY")
    report = build_report(entity, wandb_project(), benchmark, rows, headline)
    place = wandb_folder(folder) / "report.json"
    known: dict[str, str] = json.loads(place.read_text()) if place.is_file() else {}
    key = f"{entity}/{wandb_project()}"
    report.id = known.get(key, "")
    report.save()
    write_text(place, json.dumps(known | {key: report.id}, indent=1) + "\n")
    url: str = report.url
    return url
