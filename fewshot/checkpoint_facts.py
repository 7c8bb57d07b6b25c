"""What a checkpoint says of itself, checked before anything is made of it: the file may be damaged, or another's."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from fewshot.config.strict import Count, Side, Whole

_LENIENT = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class _Source(TypedDict):
    """A dataset of the training, by its configuration."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    reader: str
    root: str | None


class _Best(TypedDict):
    """The validation with the lowest loss so far."""

    step: Whole
    loss: float
    waited: Whole


class _Parts(TypedDict):
    """In how many parts batches are divided, where memory does not suffice."""

    training: Count
    validation: Count


class _Finetuned(TypedDict):
    """The annotated images of a fine-tuning."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    support: list[str]
    hashes: list[str]


class _Facts(TypedDict, total=False):
    """Those facts that this toolkit reads back, of their types; others may stand beside them."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    encoder: dict[str, Any]
    model: dict[str, Any]
    image_size: Side
    sources: list[str]
    datasets: dict[str, _Source]
    precision: str | None
    kept_step: Whole | None
    test_ids: list[str]
    steps_done: Annotated[int, Field(ge=0)]
    scaler: dict[str, Any]
    best: _Best
    parts: _Parts
    finetuned: _Finetuned


_FACTS = TypeAdapter(_Facts)


def require_sound(facts: object) -> dict[str, Any]:
    """The facts as they are, if those that are known are of the right kind.

    Raises:
        ValueError: names the first fact that is not.

    >>> require_sound({"image_size": 256, "mine": "kept"})
    {'image_size': 256, 'mine': 'kept'}
    >>> require_sound({"image_size": 10**9})
    Traceback (most recent call last):
    ValueError: image_size: Input should be less than or equal to 4096
    """
    if not isinstance(facts, dict):
        raise ValueError(f"facts are no mapping but {type(facts).__name__}")
    try:
        _FACTS.validate_python(facts)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, problem["loc"][:3]))
        raise ValueError(f"{where}: {problem['msg']}") from error
    if unknown := set(facts.get("sources", ())) - set(facts.get("datasets", ())):
        raise ValueError(f"sources: {min(unknown)!r} is not among the datasets")
    return facts
