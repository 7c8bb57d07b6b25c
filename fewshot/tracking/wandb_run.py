"""Runs in wandb: the account, how a run begins and ends, what waits for an upload, and how trainings are followed."""

import json
import logging
import math
import netrc
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from episodes.io.files import file_hash, write_text
from fewshot.config.training import TrackingConfig, TrainConfig
from fewshot.devices import is_first_process
from fewshot.results.history import METRICS
from fewshot.results.identities import without_paths

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

PROJECT = "fewshot-bus"

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


def wandb_project() -> str:
    """Return the project of all runs: `$WANDB_PROJECT`, or the toolkit's name."""
    return os.environ.get("WANDB_PROJECT") or PROJECT


def wandb_mode() -> str:
    """Return `$WANDB_MODE`, or what `wandb offline` chose; otherwise online with a login, and offline without."""
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen
    configured: str = _settings().mode
    return "offline" if configured == "online" and not logged_in() else configured


def logged_in() -> bool:
    """Look for an API key, or an identity token, in the environment, wandb's settings and `.netrc`."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings()
    return bool(settings.api_key or settings.identity_token_file) or _in_netrc(settings.base_url)


def _settings() -> "wandb.Settings":
    import wandb

    settings: wandb.Settings = wandb.setup().settings
    return settings


def _in_netrc(base_url: str) -> bool:
    """Look for a server in the first `.netrc` that can be read; logins to the public one may have its older name."""
    import wandb

    is_public = base_url == wandb.Settings.model_fields["base_url"].default
    hosts = [urlsplit(base_url).netloc, *(["api.wandb.ai"] if is_public else [])]
    home, named = Path.home(), os.environ.get("NETRC")
    for path in [Path(named).expanduser()] if named else [home / ".netrc", home / "_netrc"]:
        try:
            found = netrc.netrc(path)
        except (OSError, netrc.NetrcParseError):
            continue
        return any(found.authenticators(host) is not None for host in hosts)
    return False


@contextmanager
def wandb_environment(folder: Path) -> Iterator[None]:
    """Set what wandb reads of the environment, for as long as the block runs.

    A variable set to nothing counts as not set, which wandb takes for an error; its reports of errors to its makers
    are off; and what it stages for a later upload lies in a run's folder, not in the user's home.
    """
    defaults = {"WANDB_ERROR_REPORTING": "false", "WANDB_DATA_DIR": str(wandb_folder(folder).absolute() / "staged")}
    changes: dict[str, str | None] = {
        name: None for name, value in os.environ.items() if name.startswith("WANDB_") and not value
    }
    changes |= {name: value for name, value in defaults.items() if not os.environ.get(name)}
    before = {name: os.environ.get(name) for name in changes}
    _set_environment(changes)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def wandb_folder(folder: Path) -> Path:
    """Return where a run's folder keeps what was logged to wandb."""
    return folder / "wandb"


def waiting_runs(folder: Path) -> list[Path]:
    """Find the runs anywhere below a folder that were logged offline and are not uploaded yet."""
    offline = folder.rglob("wandb/offline-run-*")
    return sorted(run for run in offline if run.is_dir() and not any(run.glob("*.wandb.synced")))


def sync_command(folder: Path) -> str:
    """Return the command that uploads what waits below a folder.

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


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The name, place and configuration of a run of wandb, and an id made from its content.

    The id is the same for the same content (see `digest`), so that a repeated call replaces and never doubles a run.
    """

    id: str
    name: str
    group: str
    job_type: Literal["train", "finetune", "evaluate", "benchmark"]
    config: Mapping[str, Any]


def digest(*content: Any) -> str:
    """Return a run's id: 16 hexadecimal digits that depend on JSON values alone.

    >>> digest("benchmark", {"shot": 1, "seed": 0}) == digest("benchmark", {"seed": 0, "shot": 1})
    True
    """
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class WandbRun:
    """A run that passes on what it is given until wandb fails, which costs one warning; after that it does nothing.

    It is `complete` once everything was given to wandb and the run has ended well.
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
        self.do(lambda run: run.summary.update(defined(values)))

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
            self._run = None
            logger.warning("wandb: %s; the results are complete without it", first_line(error))


@contextmanager
def wandb_run(folder: Path, facts: RunFacts) -> Iterator[WandbRun]:
    """Open a run of wandb in a folder for as long as the block runs; it ends as failed if the block does."""
    run = WandbRun(folder)
    run.start(facts)
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's name where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def defined(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return those numbers that are neither None nor NaN."""
    return {name: value for name, value in values.items() if value is not None and not math.isnan(value)}


# What a checkpoint says of its training beside what was asked for.
_OUTCOME = {"precision", "channels_last", "kept_step", "seen_images", "test_images"}


def training_listener(tracking: TrackingConfig) -> "WandbTrainings | None":
    """Follow trainings in wandb where that is asked for; of several processes the first one does."""
    return WandbTrainings() if tracking.to == "wandb" and is_first_process() else None


class WandbTrainings:
    """A listener to trainings: each is a run whose id depends on the group and on what changes the result."""

    @contextmanager
    def follow(self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any]) -> Iterator["LiveRun"]:
        """Listen to a training, whose local log is `folder/metrics.jsonl`, for as long as the block runs."""
        run_facts = _config_facts(config, group, facts)
        with wandb_run(folder, run_facts) as run:
            yield LiveRun(run, folder / METRICS)
        _remember(run, run_facts)

    def catch_up(
        self, folder: Path, config: TrainConfig, group: str, facts: Mapping[str, Any], kept_step: int | None
    ) -> None:
        """Log a training that has ended, from its local log, unless it is in wandb already."""
        log_finished_training(folder, _config_facts(config, group, facts), kept_step)


class LiveRun:
    """A training's run. Training that goes on from a saved state logs its earlier steps first, so that it is whole."""

    def __init__(self, run: WandbRun, metrics: Path) -> None:
        self.run = run
        self.metrics = metrics
        self._begun = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        if not self._begun:
            self._begun = True
            _replay(self.run, self.metrics, before=step)
        self.run.log(step, values)

    def keep(self, step: int) -> None:
        """Say which step's weights are kept."""
        self.run.summarise({"kept_step": step})


def _config_facts(config: TrainConfig, group: str, facts: Mapping[str, Any]) -> RunFacts:
    shown = config.model_dump(mode="json")
    if not config.tracking.keeps_names:
        shown = without_paths(shown)
    return training_run_facts(config.name, group, shown, facts)


def training_run_facts(name: str, group: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> RunFacts:
    """Describe a training's run by the facts of the training, or of its checkpoint; `config` is shown."""
    return RunFacts(digest("train", group, asked_for(facts)), name, group, "train", config)


def asked_for(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return those facts of a checkpoint that were known before its training."""
    return {key: value for key, value in facts.items() if key not in _OUTCOME}


def log_finished_training(folder: Path, facts: RunFacts, kept_step: int | None) -> bool:
    """Log a training from its local log, unless it is in wandb already; return False if wandb fails."""
    if facts.id in LoggedRuns(folder):
        return True
    with wandb_run(folder, facts) as run:
        _replay(run, folder / METRICS)
        run.summarise({"kept_step": kept_step})
    _remember(run, facts)
    return run.complete


def _replay(run: WandbRun, metrics: Path, before: float = math.inf) -> None:
    """Log the steps of a local log again, up to one; a last line that was left half-written is left out."""

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


def log_finetuning(checkpoint: Path, out: Path, facts: Mapping[str, Any]) -> None:
    """Log the facts of a new checkpoint, which say what was fine-tuned on what; wandb's files go beside it."""
    config = {**facts["finetuned"], "checkpoint_sha256": file_hash(checkpoint), "training": asked_for(facts)}
    run_facts = RunFacts(digest("finetune", out.stem, facts), out.stem, "finetune", "finetune", config)
    with wandb_run(out.parent, run_facts) as run:
        run.summarise({"n_support": len(facts["finetuned"]["hashes"])})
    if run.complete:
        say_what_waits(out.parent)
