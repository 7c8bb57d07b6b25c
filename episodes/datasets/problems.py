"""Problems of a dataset that a reader finds: the first is an error, or all are listed.

Training on half a dataset unknowingly is worse than not training, so a reader stops at the first image without a mask.
Who wants to mend the dataset needs all of them: inside `collected_problems` a reader goes on without the record.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from episodes.errors import DatasetError
from episodes.names import printable

Fault = Literal["missing file", "missing row", "bad row", "bad label", "bad value", "name taken twice"]
LeftOut = Literal["row without image", "stray copy", "extra file", "not read", "table not read", "spacing not used"]
Note = Literal["unused column", "unnamed patient", "patient by study"]
ProblemKind = Fault | LeftOut | Note

log = logging.getLogger("episodes.datasets")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a reader found wrong."""

    kind: ProblemKind
    subject: Path  # the file that it is about; for a row without image, the image that the row names
    message: str  # one line that names the file and, where there is something to mend, how


_collected: ContextVar[list[Problem] | None] = ContextVar("collected_problems", default=None)


@contextmanager
def collected_problems() -> Iterator[list[Problem]]:
    """Let readers list what is wrong instead of raising or logging it.

    Yields:
        The problems so far; complete once the reader is done.

    >>> with collected_problems() as problems:
    ...     report_problem("missing file", Path("a.png"), "a.png: its mask is missing")
    ...     report_left_out("stray copy", Path("a (1).png"), "a (1).png: left out: a stray copy of a.png")
    >>> [problem.kind for problem in problems]
    ['missing file', 'stray copy']
    """
    problems: list[Problem] = []
    token = _collected.set(problems)
    try:
        yield problems
    finally:
        _collected.reset(token)


def listed_problems() -> list[Problem] | None:
    """Return the problems that are listed so far; None where they are raised and logged instead."""
    return _collected.get()


def report_problem(kind: Fault, subject: Path, message: str) -> None:
    """Raise what makes a record unusable; inside `collected_problems`, list it and return.

    A caller therefore goes on without the record: it returns None, or leaves it out of its list. The message is the
    whole line, which names the file and the fix.

    Raises:
        DatasetError: with the message, outside `collected_problems`.
    """
    problems = _collected.get()
    if problems is None:
        raise DatasetError(message)
    problems.append(Problem(kind, subject, printable(message)))


def report_left_out(kind: LeftOut | Note, subject: Path, message: str) -> None:
    """Log what a reader leaves out, which is no error; inside `collected_problems`, list it. Arguments as above.

    A note, which says how something was understood that need not be wrong, is logged as information only.
    """
    problems = _collected.get()
    if problems is None:
        log.log(logging.INFO if kind in get_args(Note) else logging.WARNING, "%s", message)
    else:
        problems.append(Problem(kind, subject, printable(message)))
