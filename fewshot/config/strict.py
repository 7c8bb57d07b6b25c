"""What all configurations share: frozen models without unknown keys, and checked values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from episodes.errors import UserError

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
