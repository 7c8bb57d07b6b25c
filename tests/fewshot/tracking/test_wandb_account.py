"""Which mode and project of wandb are used, by environment and login."""

import os
from pathlib import Path

import pytest

from fewshot.tracking.wandb_run import logged_in, wandb_environment, wandb_mode, wandb_project

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_the_mode_of_the_environment_is_obeyed(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert wandb_mode() == mode


def test_without_a_login_runs_are_offline() -> None:
    assert not logged_in()
    assert wandb_mode() == "offline"


def test_a_key_in_the_environment_is_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert logged_in()
    assert wandb_mode() == "online"


@pytest.mark.parametrize(
    ("machine", "base_url", "expected"),
    [
        ("api.wandb.ai", None, "online"),
        ("api.wandb.ai", "https://api.wandb.ai", "online"),
        ("other.org", None, "offline"),
        ("wandb.clinic.org", "https://wandb.clinic.org", "online"),
        ("api.wandb.ai", "https://wandb.clinic.org", "offline"),
    ],
)
def test_a_key_in_netrc_is_a_login_to_its_own_server(
    machine: str, base_url: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(os.environ["NETRC"]).write_text(f"machine {machine}\n  login user\n  password {KEY}\n")
    if base_url:
        monkeypatch.setenv("WANDB_BASE_URL", base_url)
    assert wandb_mode() == expected


def test_what_wandb_offline_chose_is_obeyed_in_spite_of_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = Path(os.environ["WANDB_CONFIG_DIR"]) / "settings"
    settings.parent.mkdir()
    settings.write_text("[default]\nmode = offline\n")
    assert wandb_mode() == "offline"


def test_a_variable_that_is_set_to_nothing_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_PROJECT", "")
    assert wandb_project() == "fewshot-bus"
    with wandb_environment(tmp_path):
        assert "WANDB_MODE" not in os.environ
        assert wandb_mode() == "offline"
    assert os.environ["WANDB_MODE"] == ""


def test_the_project_is_the_environments_if_it_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "scanners")
    assert wandb_project() == "scanners"


def test_the_environment_is_as_before_after_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "")
    before = dict(os.environ)
    with wandb_environment(tmp_path):
        assert os.environ["WANDB_ERROR_REPORTING"] == "false"
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb" / "staged")
    assert dict(os.environ) == before


def test_what_the_user_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "/elsewhere")
    with wandb_environment(tmp_path):
        assert os.environ["WANDB_DATA_DIR"] == "/elsewhere"
