"""Unpacking zip and tar archives into a new folder: whole or not at all, within limits, and nowhere else."""

import bz2
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from episodes.errors import DatasetError, StorageError, UserError
from episodes.io.files import folder_written_whole, require_free
from episodes.io.locks import exclusive_lock
from episodes.names import composed
from episodes.parallel import Progress

_CHUNK = 1 << 20
# What the libraries raise on damaged archives; the last three, where they trust a header.
_FORMATS_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError)
_DAMAGE = (*_FORMATS_DAMAGE, LookupError, struct.error, OverflowError)
_ADVICE = "unpack it by other means if you trust it"


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Limits of what an archive may hold; the defaults are far above any dataset of breast ultrasound."""

    files: int = 500_000  # and folders
    size: int = 200 << 30  # bytes of all files, unpacked
    ratio: int = 200  # how many times larger than the archive the files may be, if larger than `harmless`
    harmless: int = 2 << 30  # bytes: black masks saved without compression pack to a thousandth


@dataclass(slots=True)
class Unpacked:
    """The outcome of unpacking into a folder."""

    folder: Path
    files: int = 0
    size: int = 0  # bytes of the files
    left_out: int = 0  # files that a Mac or a desktop had added


def unpack(
    archive: Path, folder: Path, limits: ArchiveLimits | None = None, progress: Progress | None = None
) -> Unpacked:
    """Unpack a zip or tar archive (plain, gz, bz2, xz), known by its content, into a folder that must not exist yet.

    The files are written into a hidden folder beside it, which takes its name when all are there. What a Mac or a
    desktop added (`__MACOSX`, `._a.png`) is left out. Links, devices and names that lead out are refused. The limits,
    against archives made to fill a disk, are checked by the headers before a file is written. The progress is called
    after each file with how many members are done, and are known.

    Raises:
        UserError: if there is no such archive, the folder exists, or another process unpacks into it.
        DatasetError: if it is no archive, damaged, encrypted or beyond the limits, or holds what is refused.
        StorageError: if the disk is full or cannot be written to.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file; give a zip or tar archive")
    require_free(folder)
    with exclusive_lock(folder):
        require_free(folder)  # nor has another process written it meanwhile
        with folder_written_whole(folder, durable=False) as hidden:
            unpacked = _unpack_into(hidden, _Budget(archive, limits or ArchiveLimits()), progress)
    unpacked.folder = folder
    return unpacked


class _Budget:
    """The rest of an archive's limits while its headers are read."""

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self.archive, self.limits = archive, limits
        self.packed = archive.stat().st_size
        self.allowed = min(limits.size, max(limits.harmless, limits.ratio * self.packed))
        self.files = self.size = 0
        self._names: dict[str, str] = {}  # of files and folders, in one Unicode form: as they are written
        self._written: set[str] = set()

    def spend(self, name: str, size: int, *, is_folder: bool) -> None:
        """Count one more file or folder; raise where it, or its bytes, are too many, or where it cannot be written."""
        self._require_own_place(_safe_path(name, self.archive, is_folder=is_folder), name, is_folder=is_folder)
        self.files += 1
        self.size += size
        if self.files > self.limits.files:
            raise DatasetError(f"{self.archive}: holds more than {self.limits.files} files; {_ADVICE}")
        self.require_allowed(self.size, self.allowed)

    def _require_own_place(self, path: PurePosixPath, name: str, *, is_folder: bool) -> None:
        """Refuse a file that comes twice, and names that are one to a Mac and look alike everywhere (NFC and NFD)."""
        for place in () if name.isascii() else (path, *path.parents):
            key = composed(str(place))
            if self._names.setdefault(key, str(place)) != str(place):
                raise DatasetError(
                    f"{self.archive}: {name[:100]!a} comes in two Unicode forms of one name, which is not unpacked;"
                    " unpack it by other means and rename one of them"
                )
        if not is_folder and not _is_clutter(path):
            if str(path) in self._written:
                raise _twice(self.archive, name)
            self._written.add(str(path))

    def require_allowed(self, size: int, most: int) -> None:
        if size > most:
            raise DatasetError(
                f"{self.archive}: {self.packed} bytes unpack to more than {most}, the limit for its size; {_ADVICE}"
            )


def _unpack_into(folder: Path, budget: _Budget, progress: Progress | None) -> Unpacked:
    done = Unpacked(folder)
    with _readable(budget.archive), _opened(budget) as members:
        free = shutil.disk_usage(folder.parent).free
        if budget.size > free:
            raise StorageError(
                f"{folder.parent}: {budget.size} bytes are to be written, and {free} are free; free some space"
            )
        for number, member in enumerate(members, start=1):
            _write(member, budget.archive, done)
            if progress:
                progress(number, budget.files)
    if not done.files:
        raise DatasetError(f"{budget.archive}: holds no files")
    return done


class ArchiveMember(NamedTuple):
    """One file or folder, as its header states it; `content` opens a file, and is None for a folder."""

    name: str
    size: int
    content: Callable[[], IO[bytes]] | None


# What desktops add to archives, and no dataset is made of.
_CLUTTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
# What Windows takes for devices, whatever their suffix (as in its "Naming Files, Paths, and Namespaces").
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)
_DEEPEST = 100


def _is_clutter(path: PurePosixPath) -> bool:
    return not _CLUTTER.isdisjoint(path.parts) or path.name.startswith("._")


def _write(member: ArchiveMember, archive: Path, done: Unpacked) -> None:
    """Write one file or folder, unless a Mac or a desktop has added it."""
    path = _safe_path(member.name, archive, is_folder=member.content is None)
    if _is_clutter(path):
        done.left_out += member.content is not None
        return
    target = done.folder / path
    try:
        (target if member.content is None else target.parent).mkdir(parents=True, exist_ok=True)
        if member.content is None:
            return
        with target.open("xb") as file, member.content() as content:
            _copy(content, file, member.size, archive)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _twice(archive, member.name) from error
    except OSError as error:
        raise StorageError.of(target, error) from error
    done.files += 1
    done.size += member.size


def _twice(archive: Path, name: str) -> DatasetError:
    return DatasetError(f"{archive}: {name[:100]!a} comes twice; download it again")


def _safe_path(name: str, archive: Path, *, is_folder: bool) -> PurePosixPath:
    """Return where a member is written, within the new folder; raise where it would lie outside, or be a device.

    Stricter than `tarfile.data_filter`, which shortens absolute names and lets `..` and links be that stay inside.

    >>> _safe_path("BUSI/./benign/a.png", Path("busi.zip"), is_folder=False)
    PurePosixPath('BUSI/benign/a.png')
    """
    portable = name.replace("\\", "/")
    parts = [part for part in portable.split("/") if part not in ("", ".")]
    if portable.startswith("/") or re.match("[A-Za-z]:", portable) or ".." in parts or "\0" in portable:
        raise DatasetError(f"{archive}: {name[:100]!a} leads out of the folder; do not trust this archive")
    if len(parts) > _DEEPEST:
        raise _refused(archive, name, f"more than {_DEEPEST} folders deep")
    if any(map(_DEVICES.fullmatch, parts)):
        raise _refused(archive, name, "a device's name on Windows")
    if not parts and not is_folder:
        raise _damaged(archive, "a file has no name")
    return PurePosixPath(*parts)


def _copy(content: IO[bytes], file: IO[bytes], stated: int, archive: Path) -> None:
    size = 0
    while True:
        with _readable(archive):  # an error of the archive is kept apart from one of the disk that is written to
            chunk = content.read(_CHUNK)
        size += len(chunk)
        if size > stated:
            raise _damaged(archive, "a file is longer than its header states")
        if not chunk:
            break
        file.write(chunk)
    if size < stated:
        raise _damaged(archive, "a file is cut off")


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise _damaged(archive, str(error)) from error
    except (NotImplementedError, RuntimeError) as error:  # a method of compression, or a password
        raise DatasetError(f"{archive}: cannot be read ({error}); unpack it by other means") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(archive, str(error)) from error  # gzip and bz2 say so of damaged data


def _damaged(archive: Path, what: str) -> DatasetError:
    return DatasetError(f"{archive}: damaged ({what}); download it again")


# tarfile reads names of any length that a header states, in one piece.
_LONGEST_READ = 4 << 20
# Headers and padding beside what the files hold.
_OVERHEAD = 3 * 1024


@contextmanager
def _opened(budget: _Budget) -> Iterator[Iterator[ArchiveMember]]:
    """Open an archive, and yield its members in order: a zip's once all of its headers are within the limits."""
    archive = budget.archive
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                budget.spend(info.filename, info.file_size, is_folder=info.filename.endswith("/"))
            yield map(partial(_zip_member, zipped, archive), zipped.infolist())
    elif _is_tar(archive):
        with _decompressed(archive) as stream:
            metered = cast(Any, _Metered(stream, budget))
            with tarfile.open(fileobj=metered, mode="r:") as tarred:
                yield _tar_members(tarred, metered, budget)
    else:
        raise DatasetError(f"{archive}: is no zip or tar archive, or cut off; download it again, or unpack it yourself")


def _zip_member(opened: zipfile.ZipFile, archive: Path, info: zipfile.ZipInfo) -> ArchiveMember:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made on another system than Unix
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(archive, info.filename, "a link" if kind == stat.S_IFLNK else "a device")
    if info.flag_bits & 1:
        raise _refused(archive, info.filename, "encrypted")
    content = None if info.filename.endswith("/") else partial(opened.open, info)
    return ArchiveMember(info.filename, info.file_size, content)


def _tar_members(opened: tarfile.TarFile, metered: "_Metered", budget: _Budget) -> Iterator[ArchiveMember]:
    while info := opened.next():
        opened.members = []  # type: ignore[attr-defined] # else tarfile keeps all that it has seen
        budget.spend(info.name, info.size, is_folder=info.isdir())
        if not info.isdir() and not info.isreg():
            raise _refused(budget.archive, info.name, "a link" if info.islnk() or info.issym() else "a device")
        content = None if info.isdir() else cast(Any, partial(opened.extractfile, info))
        yield ArchiveMember(info.name, info.size, content)
    metered.seek(opened.offset)
    if not metered.read(tarfile.BLOCKSIZE):  # tarfile takes an archive that is cut between two files for a whole one
        raise tarfile.ReadError("its end is missing")


def _refused(archive: Path, name: str, what: str) -> DatasetError:
    return DatasetError(f"{archive}: {name[:100]!a} is {what}, which is not unpacked; unpack it by other means")


def _is_tar(archive: Path) -> bool:
    """Tell whether a file begins as a tar archive, once decompressed."""
    try:
        with _decompressed(archive) as stream:
            start = stream.read(tarfile.BLOCKSIZE)
            tarfile.TarInfo.frombuf(start, tarfile.ENCODING, "surrogateescape")
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError):
        return False
    return True


def _decompressed(archive: Path) -> IO[bytes]:
    with archive.open("rb") as file:
        start = file.read(6)
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opener = next((opener for magic, opener in openers.items() if start.startswith(magic)), Path.open)
    return cast(IO[bytes], opener(archive, "rb"))


class _Metered:
    """A stream that ends with an error where more is unpacked than allowed, or a header asks for too much memory."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream, self._budget = stream, budget
        self._most = budget.allowed + _OVERHEAD * budget.limits.files
        self.tell = stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise DatasetError(f"{self._budget.archive}: damaged: a header states {size} bytes; download it again")
        self._budget.require_allowed(self._stream.tell() + size, self._most)
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        self._budget.require_allowed(offset, self._most)
        return self._stream.seek(offset)
