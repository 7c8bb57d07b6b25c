"""The members of ZIP and tar archives, and the limits on what they may hold."""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from zipfile import ZipFile, ZipInfo

from episodes.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold. The defaults are far above any dataset of breast ultrasound.

    Attributes:
        files: how many files and folders.
        size: bytes of all files, unpacked.
        ratio: how many times larger than the archive the files may be, where they are larger than `harmless`.
        harmless: bytes that are never too many: black masks saved without compression pack to a thousandth.
    """

    files: int = 500_000
    size: int = 200 << 30
    ratio: int = 200
    harmless: int = 2 << 30

    def allowed(self, archive: Path) -> int:
        """How many bytes this archive may unpack to.

        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes(10)), file.flush()
        ...     Limits(size=5000, ratio=20, harmless=100).allowed(Path(file.name))
        200
        """
        return min(self.size, max(self.harmless, self.ratio * archive.stat().st_size))


@dataclass(slots=True)
class Budget:
    """What is left of the limits while an archive's headers are read."""

    archive: Path
    limits: Limits
    files: int = 0
    size: int = 0
    allowed: int = field(init=False)

    def __post_init__(self) -> None:
        self.allowed = self.limits.allowed(self.archive)

    def spend(self, size: int) -> None:
        """Count one more file or folder of this many bytes.

        Raises:
            DatasetError: if it is one too many, or the bytes are.
        """
        self.files += 1
        self.size += size
        if self.files > self.limits.files:
            raise DatasetError(f"{self.archive}: holds more than {self.limits.files} files; {_ADVICE}")
        if self.size > self.allowed:
            raise too_large(self.archive, self.allowed)


_ADVICE = "unpack it by other means if you trust it"


def too_large(archive: Path, allowed: int) -> DatasetError:
    """The error for an archive whose content exceeds what is allowed, in bytes."""
    size = archive.stat().st_size
    return DatasetError(f"{archive}: {size} bytes unpack to more than {allowed}, the limit for its size; {_ADVICE}")


# What desktops add to archives, and no dataset is made of.
_CLUTTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder, as its header states it.

    Attributes:
        name: its path as the archive spells it.
        size: its bytes; 0 for a folder.
        content: opens it; None for a folder.
        refused: what it is, where that is not unpacked, such as `a link`; empty if it may be.
    """

    name: str
    size: int
    content: Callable[[], IO[bytes]] | None
    refused: str = ""


def safe_path(member: Member, archive: Path) -> PurePosixPath:
    """Where a member is written, within the new folder.

    Stricter than `tarfile.data_filter`: absolute names are refused, not shortened, and of links not even those that
    point inside are made.

    Raises:
        DatasetError: if it would lie outside, or is neither a file nor a folder.

    >>> safe_path(Member("BUSI/./benign/a.png", 0, None), Path("busi.zip"))
    PurePosixPath('BUSI/benign/a.png')
    """
    name = member.name.replace("\\", "/")
    shown = ascii(member.name[:100])
    if member.refused:
        raise DatasetError(f"{archive}: {shown} is {member.refused}, which is not unpacked; unpack it by other means")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts or "\0" in name:
        raise DatasetError(f"{archive}: {shown} leads out of the folder; do not trust this archive")
    if not parts and member.content is not None:
        raise DatasetError(f"{archive}: damaged (a file has no name); download it again")
    return PurePosixPath(*parts)


def is_clutter(path: PurePosixPath) -> bool:
    """Whether a Mac or a desktop has added this file.

    >>> [is_clutter(PurePosixPath(name)) for name in ("__MACOSX/a.png", "images/._a.png", "images/a.png")]
    [True, True, False]
    """
    return bool(_CLUTTER.intersection(path.parts)) or path.name.startswith("._")


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


_ENCRYPTED = 1


@contextmanager
def zip_members(archive: Path, budget: Budget) -> Iterator[Iterator[Member]]:
    """Open a zip archive, and check what all its headers state against the limits.

    Yields:
        Its members, in the archive's order.
    """
    with ZipFile(archive) as opened:
        for info in opened.infolist():
            budget.spend(info.file_size)
        yield (_member(opened, info) for info in opened.infolist())


def _member(opened: ZipFile, info: ZipInfo) -> Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made on another system than Unix
    refused = "encrypted" if info.flag_bits & _ENCRYPTED else ""
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refused = "a link" if kind == stat.S_IFLNK else "a device"
    content = None if info.filename.endswith("/") else partial(opened.open, info)
    return Member(info.filename, info.file_size, content, refused)
