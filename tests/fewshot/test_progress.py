"""What a user sees of a step: a bar on a terminal, one plain line elsewhere."""

import io
import logging
import re

import pytest
from rich.console import Console

from fewshot.terminal import PACKAGES, Reporter, show_messages, with_progress


def plain() -> Console:
    return Console(file=io.StringIO(), width=80)


def terminal() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_a_step_is_one_line_with_its_last_note() -> None:
    console = plain()
    with Reporter(console).step("train: panet") as update:
        update(1, 2, "loss 0.9")
        assert shown(console) == ""
        update(2, 2, "loss 0.1")
    assert re.fullmatch(r"train: panet: \d+\.\d s loss 0\.1\n", shown(console))


def test_on_a_terminal_a_step_is_a_bar_that_counts() -> None:
    console = terminal()
    with Reporter(console).step("data: busi") as update:
        update(3, 780, "note")
    assert "data: busi" in shown(console)
    assert "3/780" in shown(console)
    assert "note" in shown(console)


def test_steps_of_several_processes_share_a_terminal() -> None:
    console = terminal()
    reporter = Reporter(console)
    first, second = reporter.step("train: panet"), reporter.step("train: unet")
    updates = [first.__enter__(), second.__enter__()]
    for place, update in enumerate(updates, start=1):
        update(place, 9)
    first.__exit__(None, None, None)  # the one that began first ends first
    updates[1](8, 9)
    second.__exit__(None, None, None)
    with reporter.step("evaluate"):
        pass
    for text in ("train: panet", "1/9", "train: unet", "8/9", "evaluate"):
        assert text in shown(console)


def test_a_step_that_fails_does_not_say_that_it_is_done() -> None:
    console = plain()
    with pytest.raises(ValueError, match="wrong"), Reporter(console).step("data: busi"):
        raise ValueError("wrong")
    assert shown(console) == ""


def test_of_several_processes_the_first_alone_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, spoken in (("0", "hello\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        Reporter().console.print("hello")
        assert capsys.readouterr().err == spoken


def test_items_are_counted_when_the_next_one_is_asked_for() -> None:
    seen: list[tuple[int, int]] = []
    items = with_progress(["a", "b"], 2, lambda done, total: seen.append((done, total)))
    assert next(items) == "a"
    assert seen == []
    assert list(items) == ["b"]
    assert seen == [(1, 2), (2, 2)]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = plain()
    for package in PACKAGES:
        logger = logging.getLogger(package)
        for name in ("handlers", "level", "propagate"):
            monkeypatch.setattr(logger, name, getattr(logger, name))
    show_messages(console, logging.INFO)
    return console


def test_messages_are_shown_once_and_warnings_marked(messages: Console) -> None:
    for _ in range(2):
        logging.getLogger("episodes.sampling.sampler").warning("left out %s", "busi")
        logging.getLogger("fewshot").info("filled layer1")
        logging.getLogger("fewshot").debug("unseen")
        logging.getLogger("timm").warning("unseen")
    assert shown(messages) == "warning: left out busi\nfilled layer1\n"


def test_a_message_is_not_taken_for_markup(messages: Console) -> None:
    logging.getLogger("baselines").info("[bold] images in [/tmp]")
    assert shown(messages) == "[bold] images in [/tmp]\n"
