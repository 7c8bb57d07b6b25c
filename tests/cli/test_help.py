"""What every command says of itself."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from fewshot.cli.arguments import app
from tests.cli.conftest import Fewshot

ROOT = Path(__file__).parents[2]


def leaves(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The full names of the commands that do something."""
    below = getattr(command, "commands", {})
    return [leaf for name, child in below.items() for leaf in leaves(child, (*path, name))] or [path]


COMMANDS = leaves(get_command(app))


def test_these_are_the_commands() -> None:
    assert sorted(map(" ".join, COMMANDS)) == [
        "benchmark",
        "data check",
        "data generate",
        "data init",
        "data prepare",
        "data show",
        "data split",
        "data unpack",
        "demo",
        "episodes sample",
        "evaluate",
        "export",
        "finetune",
        "predict",
        "report",
        "select",
        "train",
    ]


def example_of(fewshot: Fewshot, command: tuple[str, ...]) -> list[str]:
    ended = fewshot(*command, "--help")
    assert (ended.status, ended.err) == (0, "")
    found = re.search(r"Example:\s+fewshot\s+(.*)", ended.out, flags=re.DOTALL)
    assert found, ended.out
    return shlex.split(found[1])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example_of_itself(fewshot: Fewshot, command: tuple[str, ...]) -> None:
    words = example_of(fewshot, command)
    assert tuple(words[: len(command)]) == command
    assert len(words) > len(command)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_example_is_right_use_and_names_files_that_exist(fewshot: Fewshot, command: tuple[str, ...]) -> None:
    words = example_of(fewshot, command)
    parsed = get_command(app)
    for name in command:
        parsed = parsed.commands[name]  # type: ignore[attr-defined]
    parsed.make_context("fewshot", words[len(command) :])  # raises on wrong use
    assert all((ROOT / word).is_file() for word in words if word.startswith("configs/"))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(fewshot: Fewshot, flag: str) -> None:
    ended = fewshot(flag)
    assert ended.status == 0
    assert all(command[0] in ended.out for command in COMMANDS)
    assert "--debug" in ended.out


@pytest.mark.parametrize("group", [(), ("data",), ("episodes",)])
def test_a_command_that_is_missing_is_shown_the_choice(fewshot: Fewshot, group: tuple[str, ...]) -> None:
    ended = fewshot(*group)
    assert "Commands" in ended.out + ended.err
    assert "Traceback" not in ended.err
