"""A run in wandb: its account, its values, and how it ends when wandb fails."""

import json
import logging
import netrc
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from episodes.io.files import write_text

if TYPE_CHECKING:
    import wandb


PROJECT = "fewshot-bus"


def wandb_project() -> str:
    """The project of all runs: `$WANDB_PROJECT`, or the toolkit's name."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def wandb_mode() -> str:
    """`$WANDB_MODE`, or what `wandb offline` chose; otherwise online where there is a login, and offline where not."""
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen
    of_settings: str = _settings().mode
    if of_settings != "online":
        return of_settings
    return "online" if logged_in() else "offline"


def logged_in() -> bool:
    """Whether there is an API key, or an identity token, in the environment, wandb's settings or `.netrc`."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings()
    return bool(settings.api_key or settings.identity_token_file) or _in_netrc(_hosts(settings.base_url))


@contextmanager
def wandb_environment(folder: Path) -> Iterator[None]:
    """What wandb reads of the environment, for as long as the block runs.

    A variable set to nothing counts as not set, which wandb takes for an error; its reports of errors to its makers
    are off; and what it stages for a later upload lies in a run's folder, not in the user's home.

    Args:
        folder: of the run.
    """
    changes: dict[str, str | None] = {name: None for name, value in os.environ.items() if _is_empty(name, value)}
    defaults = {"WANDB_ERROR_REPORTING": "false", "WANDB_DATA_DIR": str(wandb_folder(folder).absolute() / "staged")}
    changes |= {name: value for name, value in defaults.items() if not os.environ.get(name)}
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def wandb_folder(folder: Path) -> Path:
    """Where a run's folder keeps what was logged to wandb."""
    return folder / "wandb"


def _is_empty(name: str, value: str) -> bool:
    return name.startswith("WANDB_") and not value


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _settings() -> "wandb.Settings":
    import wandb

    settings: wandb.Settings = wandb.setup().settings
    return settings


def _hosts(base_url: str) -> list[str]:
    """Under which names `.netrc` may know a server: the public one has an older name, under which logins were kept."""
    import wandb

    is_public = base_url == wandb.Settings.model_fields["base_url"].default
    return [urlsplit(base_url).netloc, *(["api.wandb.ai"] if is_public else [])]


def _in_netrc(hosts: Sequence[str]) -> bool:
    home, named = Path.home(), os.environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        try:
            found = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError):
            continue
        return any(found.authenticators(host) is not None for host in hosts)
    return False


DICE = "lesion_dice"
LESION = {1: "lesion"}


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """What of the numbers is defined: neither None nor NaN."""
    return {name: value for name, value in values.items() if value is not None and not isnan(value)}


def overlay(
    image: NDArray[np.uint8], truth: NDArray[np.bool_], prediction: NDArray[np.bool_], caption: str
) -> "wandb.Image":
    """An image whose true and predicted lesion can be switched on and off.

    Args:
        image: grey levels, (H, W).
        truth: where the lesion is, (H, W).
        prediction: where one is predicted, (H, W).
        caption: below it.
    """
    import wandb

    masks = {
        name: {"mask_data": mask.astype(np.uint8), "class_labels": LESION}
        for name, mask in (("truth", truth), ("prediction", prediction))
    }
    return wandb.Image(image, masks=masks, caption=caption)


def data_table(types: Mapping[str, type], rows: Sequence[Sequence[Any]]) -> "wandb.Table":
    """A table whose columns have known types; None where there is no value.

    Args:
        types: of the columns, by name.
        rows: values, one per column.
    """
    import wandb

    table = wandb.Table(columns=list(types), dtype=list(types.values()))
    # Adding row by row checks every value against types that are known here: half a second for 3000 queries.
    table.data = [list(row) for row in rows]
    return table


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
