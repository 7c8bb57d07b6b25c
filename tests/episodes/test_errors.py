"""Messages that name what comes from elsewhere: one line each, that no terminal acts upon, and not without end."""

import pytest

from episodes.errors import DatasetError, UserError, in_short


def test_what_would_command_a_terminal_is_printed_as_an_escape() -> None:
    assert str(DatasetError("a\nb: \x1b[31mis empty\u2028")) == "a%0Ab: %1B[31mis empty%E2%80%A8"
    assert str(DatasetError("linke Brust, 3 Uhr: nicht gefunden: é")) == "linke Brust, 3 Uhr: nicht gefunden: é"


def test_every_argument_is_a_line() -> None:
    assert str(UserError("first: wrong\n", "second: wrong")) == "first: wrong%0A\nsecond: wrong"
    assert str(UserError()) == ""


def test_the_middle_of_an_endless_line_is_left_out() -> None:
    message = str(UserError(f"a.png: {'x' * 100_000}; restore it"))
    assert len(message) < 1_010
    assert message.startswith("a.png: xxx")
    assert message.endswith("xxx; restore it")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("not a\n   number"), "not a number"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 300), "x" * 200 + "..."),
    ],
)
def test_another_library_s_words(error: Exception, words: str) -> None:
    assert in_short(error) == words
