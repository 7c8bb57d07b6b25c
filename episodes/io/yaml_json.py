"""YAML and JSON, read within limits."""

import json
import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

MOST_JSON_BYTES = 256 * 2**20  # the index of a store of 100,000 images has 50 MB
MOST_DEPTH = 50
LARGEST_NUMBER = 2**64  # seeds have 64 bits

# Only an escape can put these into the text of a file: a character that ends a path, or half of one.
_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class JSONTextError(ValueError):
    """A text is not JSON, or goes beyond the limits; the message is one line and does not name the file."""


def parse_json(text: str, *, nan: bool = False) -> object:
    """Read a JSON text whose values are all what JSON can write, nested in at most 50 levels.

    With `nan`, `NaN` and `Infinity` are numbers, which Python writes and JSON does not know.

    Raises:
        JSONTextError: if it is not JSON, is nested too deeply, or has a whole number of more than 64 bits, a number
            that is not finite, or a character that no text can have.

    >>> parse_json('{"shots": [1, 5]}')
    {'shots': [1, 5]}
    >>> parse_json("[1e999]")
    Traceback (most recent call last):
    episodes.io.yaml_json.JSONTextError: inf is no number that JSON can write
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
    return parse_json(_read_limited(path, MOST_JSON_BYTES, JSONTextError), nan=nan)


def _read_limited(path: Path, most: int, kind: type[ValueError], encoding: str = "utf-8") -> str:
    """Read a text file of at most so many bytes, whole MiB, or raise an error of the kind."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise kind(f"larger than {most >> 20} MiB")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise kind(f"not UTF-8 ({error.reason} at byte {error.start})") from error


def require_writable(text: str) -> None:
    """Check that a text can be written to a file, and can be a file's name.

    Raises:
        ValueError: if it has a NUL, which ends a path, or half of a surrogate pair, which UTF-8 cannot write.
    """
    if "\0" in text or (not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)):
        raise JSONTextError("a text has a character that no text can have")


def _parts(value: object) -> Iterator[object]:
    """Yield a value and all that is in it, level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(MOST_DEPTH):
        yield from level
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in ((*one, *one.values()) if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise JSONTextError(f"nested more deeply than {MOST_DEPTH} levels")


MOST_YAML_BYTES = 2**20

MOST_VALUES = 100_000  # with what is referred to counted each time
LONGEST_VALUE = 10_000  # characters
LONGEST_NUMBER = 100  # with underscores, in any base

# libyaml's parser where PyYAML was built with it: the one in Python takes seconds for a mebibyte.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YAMLTextError(ValueError):
    """A text is not YAML, or goes beyond the limits; the message is one line and does not name the file."""


class _Loader(_Base):  # type: ignore[misc]
    """Plain values alone, and no number larger than anything here needs."""


def parse_yaml(text: str) -> object:
    """Read a YAML text of plain values: no objects of Python's, no key twice, nothing that grows when it is read.

    Dates are values besides those of JSON; nothing is nested more deeply than 50 levels.

    Raises:
        YAMLTextError: if it is not YAML; if a mapping has a key twice, of which YAML would take the last in silence; or
            if it is larger, deeper or, with its references followed, longer than the limits of this module.

    >>> parse_yaml("{name: tiny, shots: [1, 5]}")
    {'name': 'tiny', 'shots': [1, 5]}
    >>> parse_yaml("{steps: 5, steps: 50}")
    Traceback (most recent call last):
    episodes.io.yaml_json.YAMLTextError: line 1: the key 'steps' stands here and in line 1; remove one of them
    """
    if len(text) > MOST_YAML_BYTES:
        raise YAMLTextError(f"larger than {MOST_YAML_BYTES >> 20} MiB")
    try:
        _require_bounded(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _require_distinct_keys(node)
            value: object = loader.construct_document(node)
            return value
        finally:
            loader.dispose()
    except YAMLTextError:
        raise
    except JSONTextError as error:
        raise YAMLTextError(str(error)) from error
    except RecursionError as error:
        raise YAMLTextError("nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # What looks like a date or a number and is none, such as 2026-02-30, fails in various ways.
        message = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise YAMLTextError(message or type(error).__name__) from error


def read_yaml(path: Path) -> object:
    """Read a YAML file, as `parse_yaml` does a text.

    Raises:
        YAMLTextError: if it is not UTF-8, besides.
        OSError: if it cannot be read.
    """
    return parse_yaml(_read_limited(path, MOST_YAML_BYTES, YAMLTextError, "utf-8-sig"))


def _require_bounded(text: str) -> None:
    """Count what a text would become, before anything is built from it.

    Nine lines of ten references each, every line to the one before, are a billion values.
    """
    sizes: dict[str, int] = {}  # of what has an anchor, with its references followed
    open_collections: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=_Loader):
        if tag := getattr(event, "tag", None):
            raise YAMLTextError(f"line {_line(event)}: the tag {tag}; write a plain value")
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes[anchor or ""] = 1
            if len(event.value) > LONGEST_VALUE:
                raise YAMLTextError(f"a value of {len(event.value)} characters; expected at most {LONGEST_VALUE}")
            require_writable(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_collections.append((anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_collections.pop()
            sizes[anchor or ""] = total - before
        if len(open_collections) > MOST_DEPTH:
            raise YAMLTextError(f"nested more deeply than {MOST_DEPTH} levels")
        if any(opened == anchor for opened, _ in open_collections) and isinstance(event, yaml.AliasEvent):
            raise YAMLTextError(f"*{anchor} refers to what it stands in")
        if total > MOST_VALUES:
            raise YAMLTextError(f"more than {MOST_VALUES} values, with what is referred to counted each time")


def _require_distinct_keys(root: yaml.Node) -> None:
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = _line(key), (key.tag, key.value)
            if name in lines:
                raise YAMLTextError(
                    f"line {line}: the key {key.value!r} stands here and in line {lines[name]}; remove one of them"
                )
            lines[name] = line


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield all nodes below one, each once, however often it is referred to."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _line(part: yaml.Node | yaml.Event) -> int:
    return 1 if part.start_mark is None else part.start_mark.line + 1


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    number: int | None = loader.construct_yaml_int(node) if len(node.value) <= LONGEST_NUMBER else None
    if number is None or abs(number) > LARGEST_NUMBER:
        raise YAMLTextError(f"line {_line(node)}: a whole number has more than 64 bits")
    return number


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
