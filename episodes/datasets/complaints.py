"""What a reader says of a dataset that is not as it should be: an error, or a list of all that is wrong.

Training on half a dataset unknowingly is worse than not training, so a reader stops at the first image without a mask.
Who wants to mend the dataset needs all of them: inside `collected_complaints` a reader goes on without the record.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from episodes.errors import DatasetError

ComplaintKind = Literal[
    "missing file",
    "unreadable",
    "missing row",
    "bad row",
    "bad label",
    "bad value",
    "name taken twice",
    "row without image",
    "stray copy",
    "extra file",
]

log = logging.getLogger("episodes.datasets")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that a reader found wrong.

    Attributes:
        kind: what it is.
        subject: the file that it is about; for a row without image, the image that the row names.
        message: one line that names the file and, where there is something to mend, how.
    """

    kind: ComplaintKind
    subject: Path
    message: str


_collected: ContextVar[list[Complaint] | None] = ContextVar("collected_complaints", default=None)


@contextmanager
def collected_complaints() -> Iterator[list[Complaint]]:
    """Let readers list what is wrong instead of raising or logging it.

    Yields:
        The complaints so far; complete once the reader is done.

    >>> with collected_complaints() as complaints:
    ...     complain("missing file", Path("a.png"), "a.png: its mask is missing")
    ...     note("stray copy", Path("a (1).png"), "a (1).png: left out: a stray copy of a.png")
    >>> [complaint.kind for complaint in complaints]
    ['missing file', 'stray copy']
    """
    complaints: list[Complaint] = []
    token = _collected.set(complaints)
    try:
        yield complaints
    finally:
        _collected.reset(token)


def are_collected() -> bool:
    """Whether complaints are listed, not raised or logged."""
    return _collected.get() is not None


def has_complaints() -> bool:
    """Whether any have been listed yet."""
    return bool(_collected.get())


def complain(kind: ComplaintKind, subject: Path, message: str) -> None:
    """Raise what makes a record unusable; inside `collected_complaints`, list it and return.

    A caller therefore goes on without the record: it returns None, or leaves it out of its list.

    Args:
        kind: what is wrong.
        subject: the file that it is about.
        message: the whole line, which names the file and the fix.

    Raises:
        DatasetError: with the message, outside `collected_complaints`.
    """
    complaints = _collected.get()
    if complaints is None:
        raise DatasetError(message)
    complaints.append(Complaint(kind, subject, message))


def note(kind: ComplaintKind, subject: Path, message: str) -> None:
    """Log what a reader leaves out, which is no error; inside `collected_complaints`, list it.

    Args:
        kind: what is left out.
        subject: the file that it is about.
        message: the whole line.
    """
    complaints = _collected.get()
    if complaints is None:
        log.warning("%s", message)
    else:
        complaints.append(Complaint(kind, subject, message))
