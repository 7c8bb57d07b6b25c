"""One run of wandb, which never fails what it listens to."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fewshot.tracking.wandb_account import wandb_environment, wandb_mode, wandb_project
from fewshot.tracking.wandb_values import known

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

# Nothing is captured, uploaded or measured that is not logged here, and nothing is waited for without end (seconds).
SETTINGS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "finish_timeout": 120.0,
    "finish_timeout_raises": True,
    "host": "",
    "init_timeout": 20.0,
    "quiet": True,
    "save_code": False,
    "show_info": False,
    "use_dot_wandb": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}

JobType = Literal["train", "finetune", "evaluate", "benchmark"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run of wandb is called and made from.

    Attributes:
        id: the same for the same content (see `digest`), so that a repeated call replaces and never doubles a run.
        name: shown.
        group: what it belongs to, such as the benchmark.
        job_type: what was done.
        config: JSON values.
    """

    id: str
    name: str
    group: str
    job_type: JobType
    config: Mapping[str, Any]


def digest(*content: Any) -> str:
    """A run's id: 16 hexadecimal digits that depend on JSON values alone.

    >>> digest("benchmark", {"shot": 1, "seed": 0}) == digest("benchmark", {"seed": 0, "shot": 1})
    True
    """
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class WandbRun:
    """Passes on what it is given until wandb fails, which costs one warning; after that it does nothing.

    Attributes:
        folder: of the run; wandb's own files go to `wandb/` in it.
        complete: whether everything was given to wandb, and the run has ended well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complete = False
        self._run: wandb.Run | None = None

    def start(self, facts: RunFacts) -> None:
        """Open the run, unless wandb is disabled."""
        self._attempt(lambda: self._open(facts))

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the values of a step: numbers, tables and pictures."""
        self.do(lambda run: run.log(dict(values), step=step))

    def summarise(self, values: Mapping[str, float | None]) -> None:
        """Set what the run ends with; numbers that are not defined are left out."""
        self.do(lambda run: run.summary.update(known(values)))

    def do(self, action: Callable[["wandb.Run"], object]) -> None:
        """Do anything with wandb's own run."""
        run = self._run
        if run is not None:
            self._attempt(lambda: action(run))

    def finish(self, exit_code: int = 0) -> None:
        """End the run; what is not uploaded in time stays in its files."""
        self.do(lambda run: run.finish(exit_code=exit_code))
        self.complete = self._run is not None and exit_code == 0
        self._run = None

    def _open(self, facts: RunFacts) -> None:
        mode: Any = wandb_mode()  # wandb says which there are
        if mode == "disabled":
            return
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=wandb_project(),
            id=facts.id,
            name=facts.name,
            group=facts.group,
            job_type=facts.job_type,
            config=dict(facts.config),
            dir=str(self.folder),
            reinit="create_new",  # a run that the caller's own program has open stays as it is
            settings=wandb.Settings(mode=mode, silent=mode == "offline", **SETTINGS),
        )

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            with wandb_environment(self.folder):
                action()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever it is: the results do not depend on it
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._run = None
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        logger.warning("wandb: %s; the results are complete without it", reason)


@contextmanager
def wandb_run(folder: Path, facts: RunFacts) -> Iterator[WandbRun]:
    """A run of wandb for as long as the block runs; it ends as failed if the block does.

    Args:
        folder: of the run.
        facts: what it is.
    """
    run = WandbRun(folder)
    run.start(facts)
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()
