"""Images of a session, the limits to what a session may hold, and values kept while there is room."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from episodes.errors import UserError
from episodes.scoring.mask_scores import Spacing

MEBIBYTE = 2**20


class RefusedError(UserError):
    """A request that the page's server does not serve; the message is shown beside what caused it.

    Args:
        message: one line in plain words.
        code: the HTTP status of the answer.
    """

    def __init__(self, message: str, code: int = 422) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Upper bounds.

    Attributes:
        file_bytes: of one uploaded file.
        session_bytes: of all files of one session.
        supports: annotated images of a session.
        queries: images to segment of a session.
        sessions: pages open at one time.
        idle_seconds: after which an unused session ends.
    """

    file_bytes: int = 32 * MEBIBYTE
    session_bytes: int = 1024 * MEBIBYTE
    supports: int = 5
    queries: int = 200
    sessions: int = 8
    idle_seconds: float = 30 * 60

    def check_file(self, size: int, name: str) -> None:
        """Refuse a file that is too large.

        Raises:
            RefusedError: says the limit.
        """
        if size > self.file_bytes:
            raise RefusedError(f"{name}: larger than {self.file_bytes // MEBIBYTE} MB; shrink the image", 413)

    def check_session(self, size: int) -> None:
        """Refuse what makes a session's files too large together.

        Raises:
            RefusedError: says the limit.
        """
        if size > self.session_bytes:
            limit = self.session_bytes // MEBIBYTE
            raise RefusedError(f"all files together exceed {limit} MB; remove some images first", 413)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that a user has brought, decoded.

    Attributes:
        id: unique in its session.
        name: as the user's file is called; text, never a path.
        path: its grey values, as a PNG of the image's own size.
        size: (H, W).
        mask: the painted lesion, of the image's size; None as long as nothing is painted.
        revision: how often it was painted.
        spacing: millimetres from pixel to pixel (row, column), where the file says so.
    """

    id: str
    name: str
    path: Path
    size: tuple[int, int]
    mask: Path | None = None
    revision: int = 0
    spacing: Spacing | None = None


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
        """Return the value of a key, made now where it is not at hand; one larger than the capacity is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        while sum(map(self._size, self._values.values())) > self._capacity:
            self._values.popitem(last=False)
        return value

    def __iter__(self) -> Iterator[Key]:
        """Yield the keys, those not used for longest first."""
        return iter(self._values)
