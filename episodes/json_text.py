"""JSON that may have been damaged or made up: read within limits, so that nothing it says can surprise its reader."""

import json
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path

from episodes.files import read_limited

MOST_BYTES = 256 * 2**20  # the index of a store of 100,000 images has 50 MB
MOST_DEPTH = 50
LARGEST_NUMBER = 2**64  # seeds have 64 bits

# Only an escape can put these into the text of a file: a character that ends a path, or half of one.
_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class JSONTextError(ValueError):
    """A text is not JSON, or goes beyond the limits; the message is one line and does not name the file."""


def parse_json(text: str, *, nan: bool = False) -> object:
    """Read a JSON text whose values are all what JSON can write, and no larger than anything here needs.

    Args:
        text: such as `{"seed": 1}`.
        nan: whether `NaN` and `Infinity` are numbers, which Python writes and JSON does not know.

    Returns:
        Dictionaries, lists, strings, numbers, booleans and None; nothing is nested more deeply than 50 levels.

    Raises:
        JSONTextError: if it is not JSON, is nested too deeply, or has a whole number of more than 64 bits, a number
            that is not finite, or a character that no text can have.

    >>> parse_json('{"shots": [1, 5]}')
    {'shots': [1, 5]}
    >>> parse_json("[1e999]")
    Traceback (most recent call last):
    episodes.json_text.JSONTextError: inf is no number that JSON can write
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JSONTextError("nested too deeply" if isinstance(error, RecursionError) else str(error)) from error
    escapes = _ESCAPE.search(text) is not None
    for part in _parts(value):
        if isinstance(part, int):
            if abs(part) > LARGEST_NUMBER:
                raise JSONTextError("a whole number has more than 64 bits")
        elif isinstance(part, float):
            if not nan and not isfinite(part):
                raise JSONTextError(f"{part} is no number that JSON can write")
        elif escapes and isinstance(part, str):
            require_writable(part)
    return value


def read_json(path: Path, *, nan: bool = False) -> object:
    """Read a JSON file, as `parse_json` does a text.

    Raises:
        JSONTextError: if it is not UTF-8, or larger than 256 MiB, besides.
        OSError: if it cannot be read.
    """
    try:
        text = read_limited(path, MOST_BYTES)
    except ValueError as error:
        raise JSONTextError(str(error)) from error
    return parse_json(text, nan=nan)


def require_writable(text: str) -> None:
    """Check that a text can be written to a file, and can be a file's name.

    Raises:
        ValueError: if it has a NUL, which ends a path, or half of a surrogate pair, which UTF-8 cannot write.
    """
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise JSONTextError("a text has a character that no text can have")


def _parts(value: object) -> Iterator[object]:
    """A value and all that is in it, level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(MOST_DEPTH):
        yield from level
        level = [part for whole in level for part in _within(whole)]
        if not level:
            return
    raise JSONTextError(f"nested more deeply than {MOST_DEPTH} levels")


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()
