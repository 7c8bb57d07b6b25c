"""What was used last, up to a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key; those not used for longest make room for new ones.

    Args:
        capacity: in the units of `size`.
        size: of one value.

    >>> kept = Recent[str, str](5, len)
    >>> [kept.get(word, lambda word=word: word.upper()) for word in ("one", "to", "one", "of")]
    ['ONE', 'TO', 'ONE', 'OF']
    >>> list(kept)
    ['one', 'of']
    """

    def __init__(self, capacity: int, size: Callable[[Value], int]) -> None:
        self._capacity = capacity
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made now where it is not at hand; one that is larger than the capacity is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        while sum(map(self._size, self._values.values())) > self._capacity:
            self._values.popitem(last=False)
        return value

    def __iter__(self) -> Iterator[Key]:
        """The keys, those not used for longest first."""
        return iter(self._values)
