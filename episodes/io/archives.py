"""From an archive to a new folder, whole or not at all."""

import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path

from episodes.errors import DatasetError, StorageError, UserError
from episodes.io.archive_members import Budget, Limits, Member, is_clutter, is_tar, safe_path, tar_members, zip_members
from episodes.io.files import exclusive_lock
from episodes.parallel import Progress

_CHUNK = 1 << 20
# What the libraries raise on damaged archives; the last three, where they trust a header.
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, ValueError),
    *(LookupError, struct.error, OverflowError),
)


@dataclass(slots=True)
class Unpacked:
    """What was unpacked.

    Attributes:
        folder: where.
        files: how many files.
        size: their bytes.
        left_out: how many were left out that a Mac or a desktop had added.
    """

    folder: Path
    files: int = 0
    size: int = 0
    left_out: int = 0


def unpack(archive: Path, folder: Path, limits: Limits | None = None, progress: Progress | None = None) -> Unpacked:
    """Unpack a zip or tar archive (plain, gz, bz2, xz) into a new folder.

    The files are written into a hidden folder beside it, which takes its name when all are there. What a Mac or a
    desktop added (`__MACOSX`, `._a.png`) is left out. Links, devices and names that lead out are refused.

    Args:
        archive: the file; its content says what it is, not its name.
        folder: must not exist yet.
        limits: against archives made to fill a disk; checked by the headers before a file is written.
        progress: called after each file with how many members are done, and are known.

    Raises:
        UserError: if there is no such archive, the folder exists, or another process unpacks into it.
        DatasetError: if it is no archive, damaged, encrypted or beyond the limits, or holds what is refused.
        StorageError: if the disk is full or cannot be written to.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: there is no such file; give a zip or tar archive")
    if folder.exists():
        raise UserError(f"{folder}: exists already; give a folder that does not, so that nothing is overwritten")
    with exclusive_lock(folder):
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # left over where a process was killed
        try:
            unpacked = _unpack_into(partial, archive, Budget(archive, limits or Limits()), progress)
            with _written(folder):
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    unpacked.folder = folder
    return unpacked


def _unpack_into(folder: Path, archive: Path, budget: Budget, progress: Progress | None) -> Unpacked:
    unpacking = _Unpacking(archive, Unpacked(folder))
    with _readable(archive), _opened(archive, budget) as members:
        _require_space(folder, budget.size)
        with _written(folder):
            folder.mkdir(parents=True)
        for number, member in enumerate(members, start=1):
            unpacking.write(member)
            if progress:
                progress(number, budget.files)
    if not unpacking.done.files:
        raise DatasetError(f"{archive}: holds no files")
    return unpacking.done


def _opened(archive: Path, budget: Budget) -> AbstractContextManager[Iterator[Member]]:
    if zipfile.is_zipfile(archive):
        return zip_members(archive, budget)
    if is_tar(archive):
        return tar_members(archive, budget)
    raise DatasetError(f"{archive}: is no zip or tar archive, or cut off; download it again, or unpack it yourself")


@dataclass(slots=True)
class _Unpacking:
    archive: Path
    done: Unpacked
    written: set[str] = field(default_factory=set)

    def write(self, member: Member) -> None:
        """Write one file or folder, unless it is clutter."""
        path = safe_path(member, self.archive)
        if is_clutter(path):
            self.done.left_out += member.content is not None
            return
        target = self.done.folder / path
        try:
            with _written(target):
                (target if member.content is None else target.parent).mkdir(parents=True, exist_ok=True)
            if member.content is not None:
                self._copy(member, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise DatasetError(f"{self.archive}: {member.name[:100]!a} comes twice; download it again") from error

    def _copy(self, member: Member, target: Path) -> None:
        assert member.content is not None  # noqa: S101 - the caller has made sure
        size = 0
        with _written(target), target.open("xb") as file, member.content() as content:
            while chunk := _read(content.read, self.archive):
                size += len(chunk)
                if size > member.size:
                    raise _damaged(self.archive, "a file is longer than its header states")
                file.write(chunk)
        if size != member.size:
            raise _damaged(self.archive, "a file is cut off")
        self.done.files += 1
        self.done.size += size


def _read(read: Callable[[int], bytes], archive: Path) -> bytes:
    """Read a piece; an error of the archive is kept apart from one of the disk that is written to."""
    with _readable(archive):
        return read(_CHUNK)


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


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise
    except OSError as error:
        raise StorageError.of(path, error) from error


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise StorageError(f"{folder.parent}: {needed} bytes are to be written, and {free} are free; free some space")
