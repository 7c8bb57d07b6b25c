"""What all configurations share: frozen models without unknown keys, and checked values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from episodes.errors import UserError


class Strict(BaseModel):
    """Base of all configurations: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+ -]*$")]


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
