"""Images of a session, the limits to what a session may hold, and values kept while there is room."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from episodes.errors import UserError
from episodes.images.decoding import read_image
from episodes.images.spacing import Spacing

MEBIBYTE = 2**20


class RefusedError(UserError):
    """A request that the page's server refuses with an HTTP status (`code`); the message is shown beside its cause."""

    def __init__(self, message: str, code: int = 422) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Upper bounds."""

    file_bytes: int = 32 * MEBIBYTE  # of one uploaded file
    session_bytes: int = 1024 * MEBIBYTE  # of all files of one session
    supports: int = 5  # annotated images of a session
    queries: int = 200  # images to segment of a session
    sessions: int = 8  # pages open at one time
    idle_seconds: float = 30 * 60  # after which an unused session ends
    yielding_seconds: float = 5 * 60  # after which it makes room for a new one; at once as long as it has no image
    side: int = 16_384  # of an image, in pixels; browsers draw none that is longer

    def check_file(self, size: int, name: str) -> None:
        """Refuse (`RefusedError`) a file that is too large."""
        if size > self.file_bytes:
            raise RefusedError(f"{name}: larger than {self.file_bytes // MEBIBYTE} MB; shrink the image", 413)

    def check_side(self, height: int, width: int, name: str) -> None:
        """Refuse (`RefusedError`) an image that is too long."""
        if max(height, width) > self.side:
            raise RefusedError(f"{name}: is {width} x {height} pixels; {self.side} along a side are the most", 413)

    def check_session(self, size: int) -> None:
        """Refuse (`RefusedError`) what makes a session's files too large together."""
        if size > self.session_bytes:
            limit = self.session_bytes // MEBIBYTE
            raise RefusedError(f"all files together exceed {limit} MB; remove some images first", 413)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that a user has brought, decoded."""

    id: str  # unique in its session
    name: str  # as the user's file is called; text, never a path
    path: Path  # its grey values, as a PNG of the image's own size
    size: tuple[int, int]  # (H, W)
    mask: Path | None = None  # the painted lesion, of the image's size; None as long as nothing is painted
    revision: int = 0  # how often it was painted
    spacing: Spacing | None = None  # millimetres from pixel to pixel (row, column), where the file says so
    shows_names: bool = False  # the file says that a name is written into its picture
    grey_scale: str = ""  # how values of more than 8 bits are shown, which is chosen by this file alone


def painted_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask (H, W) as the page itself makes it: white on black."""
    return read_image(path) > 127


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key, up to a capacity in the units of `size`; those not used for longest make room for new ones.

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
