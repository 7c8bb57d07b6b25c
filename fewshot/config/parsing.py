"""Strict parsing of configurations: files, overrides, and errors that name the nearest key."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from episodes.errors import UserError
from episodes.io.yaml_json import MOST_DEPTH, YAMLTextError, parse_yaml, read_yaml

AnyConfig = TypeVar("AnyConfig", bound=BaseModel)

MOST_SHOWN = 20  # of the wrong keys in one file


class ConfigError(UserError):
    """An error in a configuration; the message names the file, the key and what was expected."""

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
    """Put `key.sub=value` overrides into a tree; the values are YAML.

    >>> parse_overrides(["train.steps=5"], {"train": {"steps": 1, "seed": 0}})
    {'train': {'steps': 5, 'seed': 0}}

    Raises:
        ConfigError: names the override that is none.
    """
    changed = dict(tree or {})
    for override in overrides:
        _apply_override(changed, override)
    return changed


def parse_config(tree: Mapping[str, Any], kind: type[AnyConfig], origin: str) -> AnyConfig:
    """Validate a configuration that is already parsed; `origin` names it in errors."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = error.errors()
        lines = [f"{origin}: {_explain(kind, tree, problem)}" for problem in problems[:MOST_SHOWN]]
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
        child = tree.get(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{override!r}: {parent} is a value, it has no keys below it")
        tree[parent] = dict(child)  # where YAML says `*name`, another key has the same mapping
        tree = tree[parent]
    tree[last] = value


def _explain(kind: type[BaseModel], tree: Mapping[str, Any], problem: Any) -> str:
    location: list[str] = []
    within: Any = tree
    for part in problem["loc"]:
        if isinstance(part, str) and not isinstance(within, Mapping):
            break  # of several kinds that a value may be of, this names one
        location.append(str(part))
        within = within.get(part, {}) if isinstance(within, Mapping) else None
    key = ".".join(location)
    if problem["type"] != "extra_forbidden":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    valid = _valid_keys(kind, location[:-1])
    nearest = difflib.get_close_matches(location[-1], valid, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"valid keys: {', '.join(valid) or 'none'}"
    return f"{key}: unknown key; {hint}"


def _valid_keys(kind: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys that the model at a location has."""
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


# Far above what anyone needs, and far below what an array of that size would need. A configuration may be another's:
# every checkpoint has one, which its network is built from.
LARGEST_COUNT = 10**9
LARGEST_SEED = 2**63 - 1
LARGEST_IMAGE = 4096
MOST_OPTIONS = 1_000  # values that a network's or a method's options have, in lists and mappings too


class Strict(BaseModel):
    """Base of all configurations: frozen, without unknown keys, and every number a finite one."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


def _bounded(options: dict[str, Any]) -> dict[str, Any]:
    waiting: list[object] = [options]
    for count in range(1, MOST_OPTIONS + 1):
        if not waiting:
            break
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, int | float) and not abs(value) <= LARGEST_COUNT:
            raise ValueError(f"{value:g} is beyond {LARGEST_COUNT:g}")
        if count + len(waiting) > MOST_OPTIONS:
            raise ValueError(f"more than {MOST_OPTIONS} values")
    return options


Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Whole = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Side = Annotated[int, Field(ge=32, le=LARGEST_IMAGE)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+ -]*$", max_length=100)]
Options = Annotated[dict[str, Any], AfterValidator(_bounded)]


def known_to(find: Callable[[str], object]) -> AfterValidator:
    """Accept the names that `find` finds; its error says which there are."""

    def check(name: str) -> str:
        try:
            find(name)
        except UserError as error:
            raise ValueError(str(error)) from error
        return name

    return AfterValidator(check)


def require_known(key: str, names: Sequence[str], known: Mapping[str, object]) -> None:
    """Raise a ValueError that names the key and the first name that is not among the known ones."""
    for name in names:
        if name not in known:
            raise ValueError(f"{key}: {name!r} is not among {', '.join(known) or 'none'}")


def require_distinct(key: str, values: Sequence[object]) -> None:
    """Raise a ValueError that names the key and the first value that is given twice."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{key}: {value!r} is given twice")
