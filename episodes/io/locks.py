"""Locks of files and folders, between the processes of one machine and where it can be of several."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from episodes.errors import StorageError, UserError
from episodes.io.files import hidden_beside, remove_leftovers

logger = logging.getLogger(__name__)

# What a file system says that has no locks, as network ones may; the last is NFS's, of a file that it opened otherwise.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}


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
    return hidden_beside(place, "lock"), missing


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
