"""Errors that a user can cause and mend: one readable line that names what is wrong and what to do."""


class UserError(Exception):
    """Base of every error that the command line prints as one line, without a traceback.

    Attributes:
        status: the command line's exit status: 1 failed, 2 wrong use.
    """

    status = 1


class DatasetError(UserError):
    """A dataset on disk is not what its reader expects; the message names the file and the fix."""


class SamplingError(UserError):
    """The records cannot give the requested episodes or draws; the message counts what is there."""


class ManifestError(UserError):
    """A manifest or split on disk is damaged, or belongs to other records than those at hand."""
