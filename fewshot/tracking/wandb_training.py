"""Trainings in wandb: live, or from the local log of one that has ended."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.config import Tracking
from fewshot.tracking.wandb_index import LoggedRuns
from fewshot.tracking.wandb_offline import say_what_waits
from fewshot.tracking.wandb_run import RunFacts, WandbRun, digest, wandb_run

if TYPE_CHECKING:
    import wandb

METRICS = "metrics.jsonl"

# What a checkpoint says of its training beside what was asked for.
_OUTCOME = {"precision", "kept_step", "test_ids"}


class TrainingRun:
    """Listens to a training; does nothing without a run.

    Training that goes on from a saved state logs its earlier steps first, so that its run is whole.

    Args:
        run: of wandb.
        metrics: the local log, which is written before.
    """

    def __init__(self, run: WandbRun | None, metrics: Path) -> None:
        self.run = run
        self.metrics = metrics
        self._begun = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        if self.run is None:
            return
        if not self._begun:
            self._begun = True
            replay(self.run, self.metrics, before=step)
        self.run.log(step, values)

    def keep(self, step: int) -> None:
        """Say which step's weights are kept."""
        if self.run is not None:
            self.run.summarise({"kept_step": step})


def training_run_facts(name: str, group: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> RunFacts:
    """A training's run; its id depends on the group and on what changes the result.

    Args:
        name: shown.
        group: the benchmark that it is for, or its own name.
        config: shown, JSON values.
        facts: of the training, or of its checkpoint.
    """
    asked = {key: value for key, value in facts.items() if key not in _OUTCOME}
    return RunFacts(digest("train", group, asked), name, group, "train", config)


@contextmanager
def training_run(tracking: Tracking, folder: Path, facts: RunFacts) -> Iterator[TrainingRun]:
    """Listen to a training for as long as the block runs; of several processes the first one does.

    Args:
        tracking: as configured.
        folder: of the training, with its `metrics.jsonl`.
        facts: what wandb is to know.
    """
    if not _listens(tracking):
        yield TrainingRun(None, folder / METRICS)
        return
    with wandb_run(folder, facts) as run:
        yield TrainingRun(run, folder / METRICS)
    _remember(run, facts)


def log_finished_training(tracking: Tracking, folder: Path, facts: RunFacts, kept_step: int | None) -> bool:
    """Log a training that has ended, from its local log, unless it is in wandb already.

    Args:
        tracking: as configured.
        folder: of the training.
        facts: what wandb is to know.
        kept_step: whose weights were kept.

    Returns:
        Whether wandb works: true as well where there was nothing to do.
    """
    if not _listens(tracking) or facts.id in LoggedRuns(folder):
        return True
    with wandb_run(folder, facts) as run:
        replay(run, folder / METRICS)
        run.summarise({"kept_step": kept_step})
    _remember(run, facts)
    return run.complete


def replay(run: WandbRun, metrics: Path, before: float = math.inf) -> None:
    """Log the steps of a local log again, up to one.

    Args:
        run: of wandb.
        metrics: the local log; a last line that was left half-written is left out.
        before: the first step that is not logged.
    """

    def log(made: "wandb.Run") -> None:
        text = metrics.read_text(encoding="utf-8")
        for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines()):
            step = line.pop("step")
            if step < before:
                made.log(line, step=step)

    run.do(log)


def _remember(run: WandbRun, facts: RunFacts) -> None:
    """Note a run that was logged to its end; a benchmark tells of its uploads once, at its own end."""
    if run.complete:
        LoggedRuns(run.folder).add(facts.id, facts.name)
        if facts.group == facts.name:
            say_what_waits(run.folder)


def _listens(tracking: Tracking) -> bool:
    return tracking == "wandb" and os.environ.get("RANK", "0") == "0"
