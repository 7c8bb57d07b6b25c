"""Which project and mode of wandb to use, from the environment and the user's login; without any network request."""

import netrc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
