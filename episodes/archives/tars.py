"""Tar archives, compressed or not: each header lies before its file, so they are checked one after the other."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from episodes.archives.limits import Budget, too_large
from episodes.archives.members import Member
from episodes.errors import DatasetError

_OPENERS: Mapping[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
# tarfile reads names of any length that a header states, in one piece.
_LONGEST_READ = 4 << 20
# Headers and padding beside what the files hold.
_OVERHEAD = 3 * 1024


@contextmanager
def tar_members(archive: Path, budget: Budget) -> Iterator[Iterator[Member]]:
    """Open a tar archive.

    Yields:
        Its members, each checked against the limits as its turn comes.
    """
    most = budget.allowed + _OVERHEAD * budget.limits.files
    with (
        _decompressed(archive) as stream,
        _Metered(stream, archive, most) as metered,
        tarfile.open(fileobj=metered, mode="r:") as opened,
    ):
        yield _members(opened, metered, budget)


def is_tar(archive: Path) -> bool:
    """Whether a file begins as a tar archive, once decompressed."""
    try:
        with _decompressed(archive) as stream:
            start = stream.read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(start, tarfile.ENCODING, "surrogateescape")
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError):
        return False
    return True


def _members(opened: tarfile.TarFile, metered: "_Metered", budget: Budget) -> Iterator[Member]:
    while info := opened.next():
        opened.members = []  # type: ignore[attr-defined] # else tarfile keeps all that it has seen
        budget.spend(info.size)
        if info.isdir():
            yield Member(info.name, 0, None)
        elif info.isreg():
            yield Member(info.name, info.size, partial(_content, opened, info))
        else:
            yield Member(info.name, 0, None, "a link" if info.islnk() or info.issym() else "a device")
    metered.seek(opened.offset)
    if not metered.read(tarfile.BLOCKSIZE):  # tarfile takes an archive that is cut between two files for a whole one
        raise tarfile.ReadError("its end is missing")


def _content(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], opened.extractfile(info))


@contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        start = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), Path.open)
    with cast(IO[bytes], opener(archive, "rb")) as stream:
        yield stream


class _Metered(io.RawIOBase):
    """A stream that ends with an error where more is unpacked than allowed, or a header asks for too much memory."""

    def __init__(self, stream: IO[bytes], archive: Path, most: int) -> None:
        self._stream, self._archive, self._most = stream, archive, most

    def read(self, size: int = -1) -> bytes:
        """Read up to this many bytes."""
        if not 0 <= size <= _LONGEST_READ:
            raise DatasetError(f"{self._archive}: damaged: a header states {size} bytes; download it again")
        self._require(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, counted from the start."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        self._require(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        """The place that is read next."""
        return self._stream.tell()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always; backwards it costs the way from the start."""
        return True

    def _require(self, place: int) -> None:
        if place > self._most:
            raise too_large(self._archive, self._most)
