"""Errors that a user can cause and mend: one readable line that names what is wrong and what to do."""

import errno
from pathlib import Path

from episodes.names import printable


class UserError(Exception):
    r"""Base of every error that the command line prints as one line, without a traceback.

    Its arguments are its lines; there is one, as a rule. Messages name files, keys and values that come from elsewhere,
    and these may have characters that end a line or command a terminal: they are escaped (`printable`). Of a line that
    is much too long the middle is left out.

    Attributes:
        status: the command line's exit status: 1 failed, 2 wrong use.

    >>> print(UserError("a\nb.png: is empty; restore it"))
    a%0Ab.png: is empty; restore it
    """

    status = 1

    def __str__(self) -> str:
        return "\n".join(_in_one_line(str(line)) for line in self.args)


LONGEST_LINE = 1_000


def _in_one_line(text: str) -> str:
    if len(text) > LONGEST_LINE:
        text = f"{text[: LONGEST_LINE - 300]} ... {text[-300:]}"
    return printable(text)


def in_short(error: Exception, most: int = 200) -> str:
    r"""Put another library's error in one line, no longer than it is of use.

    >>> in_short(ValueError("not a\n  number"))
    'not a number'
    """
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= most else f"{words[:most]}..."


class DatasetError(UserError):
    """A dataset on disk is not what its reader expects; the message names the file and the fix."""


# What the system says where a disk is full, a user's share of it is, or a file is larger than it may be.
OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageError(UserError):
    """A file or folder cannot be written; what was there before is unharmed."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "StorageError":
        """Say which file the system would not let us write, why, and what to do.

        >>> str(StorageError.of(Path("runs/a"), OSError(errno.ENOSPC, "No space left on device")))
        'runs/a: cannot be written (No space left on device); free some space, then give the same command again'
        """
        advice = {
            **dict.fromkeys(OUT_OF_ROOM, "free some space, then give the same command again"),
            errno.EROFS: "choose a place that can be written to",
        }.get(error.errno or 0, "see that you may write there, or choose another place")
        return cls(f"{path}: cannot be written ({error.strerror or error}); {advice}")


class SamplingError(UserError):
    """The records cannot give the requested episodes or draws; the message counts what is there."""


class ManifestError(UserError):
    """A manifest or split on disk is damaged, or belongs to other records than those at hand."""
