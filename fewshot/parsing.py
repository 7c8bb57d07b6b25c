"""From YAML and overrides to a validated configuration. A wrong key is an error that names the nearest valid one."""

import difflib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from episodes.errors import UserError
from episodes.yaml_text import MOST_DEPTH, YAMLTextError, parse_yaml, read_yaml

AnyConfig = TypeVar("AnyConfig", bound=BaseModel)

MOST_SHOWN = 20  # of the wrong keys in one file


class ConfigError(UserError):
    """A configuration is wrong; the message names the file, the key and what was expected."""

    status = 2


def load_config(path: Path, kind: type[AnyConfig], overrides: Sequence[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `key.sub=value` overrides and validate the whole.

    Raises:
        ConfigError: for an unreadable file, or with one line per wrong key.
    """
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except YAMLTextError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level, found {type(tree).__name__}")
    return parse_config(parse_overrides(overrides, tree), kind, str(path))


def parse_overrides(overrides: Sequence[str], tree: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A tree with `key.sub=value` overrides put in; the values are YAML.

    >>> parse_overrides(["train.steps=5"], {"train": {"steps": 1, "seed": 0}})
    {'train': {'steps': 5, 'seed': 0}}

    Raises:
        ConfigError: names the override that is none.
    """
    changed = deepcopy(dict(tree or {}))
    for override in overrides:
        _apply_override(changed, override)
    return changed


def parse_config(tree: Mapping[str, Any], kind: type[AnyConfig], origin: str) -> AnyConfig:
    """Validate a configuration that is already parsed; `origin` names it in errors."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        lines = [f"{origin}: {_explain(kind, problem)}" for problem in problems[:MOST_SHOWN]]
        if len(problems) > MOST_SHOWN:
            lines.append(f"{origin}: and {len(problems) - MOST_SHOWN} more")
        raise ConfigError(*lines) from error


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r}: expected key=value, such as train.steps=100")
    try:
        value = parse_yaml(text)
    except YAMLTextError as error:
        raise ConfigError(f"{override!r}: the value is not YAML: {error}") from error
    *parents, last = key.split(".")
    if len(parents) > MOST_DEPTH:
        raise ConfigError(f"{override!r}: nested more deeply than {MOST_DEPTH} levels")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{override!r}: {parent} is a value, it has no keys below it")
        tree = child
    tree[last] = value


def _explain(kind: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    valid = _valid_keys(kind, location[:-1])
    nearest = difflib.get_close_matches(location[-1], valid, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"valid keys: {', '.join(valid) or 'none'}"
    return f"{key}: unknown key; {hint}"


def _valid_keys(kind: type[BaseModel], location: Sequence[str]) -> list[str]:
    """The keys that the model at a location has."""
    parts = iter(location)
    for part in parts:
        if part in kind.model_fields:
            annotation = kind.model_fields[part].annotation
            kind = _model_within(annotation) or kind
            if get_origin(annotation) is dict:
                next(parts, None)  # the user's own name, which may well be that of a key
    return list(kind.model_fields)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_within(part))), None)
