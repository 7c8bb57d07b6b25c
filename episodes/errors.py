"""Errors that a user can cause and mend: one readable line that names what is wrong and what to do."""

import errno
from pathlib import Path


class UserError(Exception):
    """Base of every error that the command line prints as one line, without a traceback.

    Attributes:
        status: the command line's exit status: 1 failed, 2 wrong use.
    """

    status = 1


class DatasetError(UserError):
    """A dataset on disk is not what its reader expects; the message names the file and the fix."""


class StorageError(UserError):
    """A file or folder cannot be written; what was there before is unharmed."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> "StorageError":
        """What to say of a file that the system would not let us write.

        >>> str(StorageError.of(Path("runs/a"), OSError(errno.ENOSPC, "No space left on device")))
        'runs/a: cannot be written (No space left on device); free some space, then give the same command again'
        """
        advice = {
            errno.ENOSPC: "free some space, then give the same command again",
            errno.EDQUOT: "free some space, then give the same command again",
            errno.EROFS: "choose a place that can be written to",
        }.get(error.errno or 0, "see that you may write there, or choose another place")
        return cls(f"{path}: cannot be written ({error.strerror or error}); {advice}")


class SamplingError(UserError):
    """The records cannot give the requested episodes or draws; the message counts what is there."""


class ManifestError(UserError):
    """A manifest or split on disk is damaged, or belongs to other records than those at hand."""
