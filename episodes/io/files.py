"""Files that are written whole or not at all, and the locks of the folders they lie in."""

import errno
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import file_digest, sha256
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from episodes.errors import ManifestError, StorageError, UserError
from episodes.records import Record, records_hash

logger = logging.getLogger(__name__)

# What a file system says that has no locks, as network ones may; the last is NFS's, of a file that it opened otherwise.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}
# What a spreadsheet takes for a formula, where it is no number; or what was protected from that.
_FORMULA = re.compile(r"'*[=+\-@\t\r](?s:.*)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_TEMPORARY = r"\.\d+(\.removed)?\.partial"
# What a file system says that takes no space before it is written to.
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends without an error.

    It lies in a folder of its own, since libraries such as safetensors leave files of their own beside what they write
    when they are killed.

    Raises:
        StorageError: if the disk is full or read-only, or the folder is not the user's to write in.
    """
    partial = _partial(path)
    try:
        with _storage_errors(path):
            partial.mkdir(parents=True, exist_ok=True)
            yield partial / path.name
            _put_on_disk(partial / path.name)
            (partial / path.name).replace(path)
            with suppress(OSError):  # not every file system can be asked for that
                _put_on_disk(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def folder_written_whole(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder` to fill; it takes the name, and the place of an older one, at the end.

    Raises:
        StorageError: if it cannot be made, or cannot be renamed. What the block raises is passed on as it is.
    """
    folder = folder.absolute()
    partial = _partial(folder)
    try:
        with _storage_errors(folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        yield partial
        with _storage_errors(folder):
            for path in (path for path in partial.rglob("*") if path.is_file()):
                _put_on_disk(path)
            remove_folder(folder)
            partial.rename(folder)
            with suppress(OSError):
                _put_on_disk(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder, if there is one, so that a process killed meanwhile leaves all of it or nothing of that name.

    Raises:
        StorageError: if the system does not let it be removed.
    """
    aside = _hidden(folder, f".{os.getpid()}.removed.partial")
    with _storage_errors(folder):
        if folder.exists():
            folder.rename(aside)
            shutil.rmtree(aside)


def remove_leftovers(path: Path) -> None:
    """Remove the temporary folders that killed processes left of a file or folder, and within the folder.

    Only for who is alone there: what another process is writing would be removed as well.
    """
    own = re.compile(re.escape(_hidden(path, "").name) + _TEMPORARY)
    any_name = re.compile(rf"\..+{_TEMPORARY}")
    beside = [found for found in path.parent.glob(".*.partial") if own.fullmatch(found.name)]
    within = [found for found in path.rglob(".*.partial") if any_name.fullmatch(found.name)]
    for found in (*beside, *within):
        shutil.rmtree(found, ignore_errors=True)  # what cannot be removed does no harm


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, in place of what was there.

    Raises:
        StorageError: if it cannot be written.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))  # a path may hold bytes that are no text


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole, in place of what was there.

    Raises:
        StorageError: if it cannot be written.
    """
    with written_whole(path) as partial:
        partial.write_bytes(content)


def write_lines(path: Path, lines: Iterable[str], *, overwrite: bool) -> None:
    """Write a text file whole, line by line.

    Raises:
        ManifestError: if the file exists and must not be overwritten.
        StorageError: if it cannot be written.
    """
    if path.exists() and not overwrite:
        raise ManifestError(f"{path}: exists already; choose another name, or replace it with --overwrite")
    with written_whole(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def reserve_space(descriptor: int, size: int) -> None:
    """Give an open file its size, and its place on disk where the file system can take that beforehand.

    What is in the file stays, up to the size.

    Raises:
        OSError: if there is too little space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    os.ftruncate(descriptor, size)


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it: on a nearly full disk the system writes a part first, and fails the next time.

    Raises:
        OSError: if the disk does not take it.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def resumable_folder(folder: Path) -> Path:
    """Return the hidden folder in which one is made whose work goes on after a kill: its name is always the same."""
    return _hidden(folder, ".partial")


def _partial(path: Path) -> Path:
    return _hidden(path, f".{os.getpid()}.partial")


def _hidden(path: Path, ending: str) -> Path:
    """Name a hidden file or folder beside a path after it, short enough whatever its name."""
    return path.with_name(f".{short_name(path.name, LONGEST_NAME - 40)}{ending}")


LONGEST_NAME = 240
"""Bytes of a file's name; usual file systems take 255, and an ending is still to come."""


def short_name(name: str, most: int = LONGEST_NAME) -> str:
    """Cut a name that has more bytes than that; a hash in place of the rest keeps names apart that begin alike.

    >>> short_name("scan_01"), short_name(30 * "scan_01", 20)
    ('scan_01', 'scan_01scan-fd21f54e')
    """
    content = os.fsencode(name)
    if len(content) <= most:
        return name
    return f"{content[: most - 9].decode(errors='ignore')}-{sha256(content).hexdigest()[:8]}"


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Say which file the system did not let us write, and what to do."""
    try:
        yield
    except OSError as error:
        raise StorageError.of(path, error) from error


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
    """Compute the SHA-256 of a file's content, which may be larger than memory.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def real_path(path: Path) -> Path:
    """Return where a path leads, links followed; where they lead in circles, it is returned as far as it goes."""
    return Path(os.path.realpath(path))


def read_limited(path: Path, most: int, encoding: str = "utf-8") -> str:
    """Read a text file in UTF-8, with or without a byte-order mark, of at most so many bytes, whole MiB.

    Raises:
        ValueError: if it is larger, or not UTF-8.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most >> 20} MiB")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error


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


def plain_cell(text: str) -> str:
    """Return what a cell of CSV said before it was protected.

    >>> plain_cell("'=1+1.png"), plain_cell("'a'")
    ('=1+1.png', "'a'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.fullmatch(text) else text


def require_same_records(path: Path, written_for: object, ids: Iterable[str], records: Sequence[Record]) -> None:
    """Check that a file, which holds a hash of records and ids of some, was written for the records at hand.

    Raises:
        ManifestError: if the hashes differ or an id is unknown; it names the first missing records.
    """
    known = {record.id for record in records}
    missing = sorted(set(ids) - known)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ManifestError(
            f"{path}: not all of its records are among the {len(known)} at hand, which lack "
            f"{', '.join(missing[:3])}{more}; read it with the datasets it was written for"
        )
    if written_for != records_hash(records):
        raise ManifestError(
            f"{path}: was written for other records: since then some were added or removed, or changed their "
            "label or patient; write it again, or read it with the datasets it was written for"
        )


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Lock a file or folder for this process alone for as long as the block runs; fail where another holds the lock.

    What killed processes left half-written there is removed first.

    Raises:
        UserError: if another process is at work there; it names that process.
        StorageError: if the lock cannot be written, as the disk is read-only or full.
    """
    file, made = _lock_file(path)
    holder = _read_holder(file)  # before others' attempts, which may empty the file
    try:
        with _locked(path, file, made, blocking=False):
            with suppress(OSError):  # a full disk: others are kept out all the same
                file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            remove_leftovers(path.resolve())
            yield
    except Timeout as error:
        who = holder or _read_holder(file) or "another process"
        raise UserError(f"{path}: {who} is at work there; wait until it has ended, or stop it") from error


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Wait until no other process writes a file or folder, then keep others waiting for as long as the block runs.

    Raises:
        StorageError: if the lock cannot be written, as the disk is read-only or full.
    """
    with _locked(path, *_lock_file(path), blocking=True):
        yield


def _lock_file(path: Path) -> tuple[Path, list[Path]]:
    """Find where a lock's file lies, and make the folders that are missing, which it returns too, innermost first."""
    place = path.resolve()
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of(path, error) from error
    if not place.name or (place.is_dir() and not os.access(place.parent, os.W_OK)):
        return place / ".lock", missing  # the user's own folder in one of somebody else's, such as a mounted volume
    return _hidden(place, ".lock"), missing


@contextmanager
def _locked(path: Path, file: Path, made: list[Path], *, blocking: bool) -> Iterator[None]:
    """Hold a lock; where nothing was written meanwhile, nothing is left."""
    try:
        lock = _acquired(file, blocking=blocking)
    except Timeout:
        raise
    except OSError as error:
        raise StorageError.of(path, error) from error
    try:
        yield
    finally:
        # Who waits for the file that is removed here sees that it is, and takes the lock of another.
        with suppress(OSError):
            if lock.lock_counter == 1:
                file.unlink()
        lock.release()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def _acquired(file: Path, *, blocking: bool) -> BaseFileLock:
    """Acquire the system's lock of a file; where the file system has none, a file beside it that stands for it."""
    lock: BaseFileLock = FileLock(file, is_singleton=True, fallback_to_soft=False)
    try:
        lock.acquire(blocking=blocking)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _warn_of_missing_locks()
        lock = SoftFileLock(file.with_name(f"{file.name}.soft"), is_singleton=True)
        lock.acquire(blocking=blocking)
    return lock


@cache
def _warn_of_missing_locks() -> None:
    logger.warning(
        "the file system keeps no locks: files `.NAME.lock.soft` stand in for them; where a command waits for one that"
        " another computer left, or is refused for it, and nothing is at work there, delete that file"
    )


def _read_holder(file: Path) -> str:
    """Read which process holds a lock, or held it last; empty where it is not known."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
