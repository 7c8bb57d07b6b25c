"""Files and folders that are written whole or not at all.

Whatever a command writes, it writes under a hidden name beside the place where it belongs, which it takes when all is
there. Errors and interruptions remove what is hidden; what a process left that was killed is removed by the next one
that writes there.
"""

import csv
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import file_digest, sha256
from itertools import count
from math import isnan
from pathlib import Path
from types import SimpleNamespace

from episodes.errors import OUT_OF_ROOM, ManifestError, StorageError, UserError
from episodes.names import LONGEST_NAME, short_name

# What a spreadsheet takes for a formula, where it is no number; or what was protected from that.
_FORMULA = re.compile(r"'*[=+\-@\t\r](?s:.*)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
# Whose a hidden file is: the process, and the machine or container in which it is known by this number.
_PARTIAL = re.compile(r"(\..+)\.(\d+)-([0-9a-f]{8})-\d+\.partial")
_numbers = count()
# What a file system says that takes no space before it is written to.
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def require_free(*paths: Path, overwrite: bool | None = None) -> None:
    """Refuse to begin where a file or folder could not be written, or something is that is not to be replaced.

    What is there is replaced if it may be overwritten; None says that there is no such option.

    Raises:
        UserError: names the first that is there.
        StorageError: names the first that may not be written.
    """
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            instead = "so that nothing is overwritten" if overwrite is None else "or replace it with --overwrite"
            raise UserError(f"{path}: exists already; choose another name, {instead}")
        above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not above.is_dir():
            raise StorageError.of(path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if not os.access(above, os.W_OK | os.X_OK):
            reason = errno.EROFS if os.statvfs(above).f_flag & os.ST_RDONLY else errno.EACCES
            raise StorageError.of(path, OSError(reason, os.strerror(reason)))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    Raises:
        StorageError: if the disk is full or read-only, or the folder is not the user's to write in.
    """
    with _storage_errors(path), files_written_whole(path) as (partial,):
        yield partial


@contextmanager
def files_written_whole(*paths: Path) -> Iterator[list[Path]]:
    """Give temporary paths to write to; they become `paths` when the block ends without an error, all or none.

    A process that is killed in the instant in which they are renamed leaves some, each of them whole.

    Each lies in a folder of its own, since libraries such as safetensors leave files of their own beside what they
    write when they are killed.

    Raises:
        StorageError: if a folder cannot be made, a file not be renamed, or the block finds no room on the disk. What
            else it raises is passed on as it is.
    """
    hidden = {_temporary(path): path for path in paths}
    partials = {folder / path.name: path for folder, path in hidden.items()}
    with _made(hidden):
        with _named_in_errors(partials):
            yield list(partials)
        for partial, path in partials.items():
            with _storage_errors(path):
                _put_on_disk(partial)
        for partial, path in partials.items():
            with _storage_errors(path):
                partial.replace(path)
    for parent in {path.parent for path in paths}:
        with suppress(OSError):  # not every file system can be asked for that
            _put_on_disk(parent)


@contextmanager
def folder_written_whole(folder: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary folder beside `folder` to fill; it takes the name, and the place of an older one, at the end.

    Before that it waits until every file would outlive a loss of power, unless it need not be durable: for thousands
    of files that takes long.

    Raises:
        StorageError: if it cannot be made or renamed, or the block finds no room on the disk. What else it raises is
            passed on as it is.
    """
    partial = _temporary(folder.absolute())
    with _made({partial: folder}):
        with _named_in_errors({partial: folder}):
            yield partial
        with _storage_errors(folder):
            for path in (path for path in partial.rglob("*") if durable and path.is_file()):
                _put_on_disk(path)
            remove_folder(folder.absolute())
            partial.rename(folder)
    with suppress(OSError):
        _put_on_disk(folder.parent)


@contextmanager
def _made(hidden: Mapping[Path, Path]) -> Iterator[None]:
    """Make folders, and those that they lie in; remove them at the end, and after an error these as well.

    Errors name what each is to become.
    """
    missing = [parent for folder in hidden for parent in folder.absolute().parents if not parent.exists()]
    try:
        for folder, path in hidden.items():
            with _storage_errors(path):
                folder.mkdir(parents=True)
            _remove_abandoned(folder.parent.absolute())
        yield
    except BaseException:
        _remove_all(hidden)
        for parent in sorted(set(missing), key=lambda one: -len(one.parts)):
            with suppress(OSError):  # others may have put something there
                parent.rmdir()
        raise
    _remove_all(hidden)


def _remove_all(hidden: Iterable[Path]) -> None:
    for path in hidden:
        with suppress(OSError):  # what cannot be removed does no harm
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if there is one, so that a process killed meanwhile leaves all of it or nothing of that name.

    Raises:
        StorageError: if the system does not let it be removed.
    """
    aside = _temporary(folder)
    with _storage_errors(folder):
        if folder.exists():
            folder.rename(aside)
            shutil.rmtree(aside)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files and folders that killed processes left of one, and within a folder.

    Only for who is alone there: what another process is writing would be removed as well.
    """
    stem = hidden_beside(path, "").name.removesuffix(".")
    _remove_all(found for found, owner in _partials(path.parent.glob(".*.partial")) if owner[1] == stem)
    _remove_all(found for found, _ in _partials(path.rglob(".*.partial")))
    _remove_abandoned(path.parent.absolute())


@cache
def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left in a folder that were killed on this machine; once, since a folder may be large."""
    for found, owner in _partials(folder.glob(".*.partial")):
        if owner[3] == _machine() and not _is_alive(int(owner[2])):
            _remove_all([found])


def _partials(found: Iterable[Path]) -> list[tuple[Path, re.Match[str]]]:
    """Match hidden files and folders with who made them: path, and stem, process and machine."""
    return [(path, match) for path in found if (match := _PARTIAL.fullmatch(path.name))]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


@cache
def _machine() -> str:
    """Return by what a machine, or a container on it, is known, in which processes have one numbering."""
    try:
        numbering = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbering = ""
    return sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in place of what was there, or raise a `StorageError`."""
    write_bytes(path, text.encode(errors="backslashreplace"))  # a path may hold bytes that are no text


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several text files whole, all or none, in place of what was there, or raise a `StorageError`."""
    with files_written_whole(*texts) as partials:
        for partial, text in zip(partials, texts.values(), strict=True):
            with _storage_errors(partial):
                partial.write_bytes(text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file whole, in place of what was there, or raise a `StorageError`.

    One that need not be durable takes a tenth of the time: a killed process leaves all of it or nothing, but a loss of
    power may leave it empty.
    """
    if durable:
        with written_whole(path) as partial:
            partial.write_bytes(content)
        return
    partial = _temporary(path)
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.absolute())
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except BaseException:
            _remove_all([partial])
            raise


def reserve_space(descriptor: int, size: int) -> None:
    """Give an open file its size, and its place on disk where the file system can take that beforehand.

    What is in the file stays, up to the size. Too little space is an `OSError`.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    os.ftruncate(descriptor, size)


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it: on a nearly full disk the system writes a part first, and fails (`OSError`) the next time."""
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def hidden_beside(path: Path, kind: str) -> Path:
    """Name a hidden file or folder beside a path after it, short enough whatever its name.

    >>> hidden_beside(Path("runs/a"), "lock").as_posix()
    'runs/.a.lock'
    """
    return path.with_name(f".{short_name(path.name, LONGEST_NAME - 40)}.{kind}")


def _temporary(path: Path) -> Path:
    return hidden_beside(path, f"{os.getpid()}-{_machine()}-{next(_numbers)}.partial")


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Say which file the system did not let us write, and what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError.of(path, error) from error


@contextmanager
def _named_in_errors(final: Mapping[Path, Path]) -> Iterator[None]:
    """Say where there is no room by the names that hidden files and folders are to have."""
    try:
        yield
    except OSError as error:  # which names no file, as a rule
        if error.errno not in OUT_OF_ROOM:
            raise
        several = len(final) > 1
        raise StorageError.of(next(path.parent if several else path for path in final.values()), error) from error
    except StorageError as error:
        line = str(error)
        for partial, path in final.items():
            line = line.replace(str(partial), str(path))
        raise StorageError(line) from error.__cause__


def _put_on_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, would outlive a loss of power.

    Before that, a file's name could be there without its content.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file's content, which may be larger than memory."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; where they lead in circles, it is returned as far as it goes."""
    return Path(os.path.realpath(path))


def read_text(path: Path, kind: str) -> str:
    """Read a text file of a kind, such as `split`, that messages name.

    Raises:
        ManifestError: if there is no such file, or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: there is no such file; check the path of the {kind}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read as a {kind} ({error})") from error


def protect_cell(text: str) -> str:
    """Put an apostrophe before a cell of CSV that a spreadsheet would run as a formula; `plain_cell` takes it away.

    >>> protect_cell("=1+1.png"), protect_cell("-0.5"), protect_cell("a-b")
    ("'=1+1.png", '-0.5', 'a-b')
    """
    return f"'{text}" if _FORMULA.fullmatch(text) and not _NUMBER.fullmatch(text) else text


def csv_text(lines: Iterable[Iterable[object]]) -> str:
    """Return lines of values as CSV, numbers as precise as they are, nothing for None and NaN, formulas as text.

    >>> print(csv_text([["a", "b", "c"], ["x, y", float("nan"), "=z"]]), end="")
    a,b,c
    "x, y",,'=z
    """
    rows: list[str] = []
    # With this end of lines, a carriage return in a cell is quoted as well.
    csv.writer(SimpleNamespace(write=rows.append), lineterminator="\r\n").writerows(map(_cell, line) for line in lines)
    return "".join(f"{row[:-2]}\n" for row in rows)


def _cell(value: object) -> object:
    if isinstance(value, str):
        return protect_cell(value)
    return "" if value is None or (isinstance(value, float) and isnan(value)) else value


def plain_cell(text: str) -> str:
    """Return what a cell of CSV said before it was protected.

    >>> plain_cell("'=1+1.png"), plain_cell("'a'")
    ('=1+1.png', "'a'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.fullmatch(text) else text
