"""Archives in which datasets are distributed, unpacked so that nothing is written outside, too large or half-way."""

from episodes.archives.limits import Limits
from episodes.archives.unpacking import Unpacked, unpack

__all__ = ["Limits", "Unpacked", "unpack"]
