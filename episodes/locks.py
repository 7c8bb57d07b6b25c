"""Locks between processes, so that what one writes is not written by another at the same time.

The operating system frees a lock when its process ends, however it ends, so none is ever left over. The lock's file,
`.NAME.lock` beside what it is for, stays: removing it would let two processes lock two files of one name.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from episodes.errors import StorageError, UserError


@contextmanager
def only_process(path: Path) -> Iterator[None]:
    """Be the only process that writes a file or folder for as long as the block runs.

    Raises:
        UserError: if another process is at work there; it names that process.
        StorageError: if the lock cannot be written, as the disk is read-only or full.
    """
    lock = _lock(path)
    holder = _read_holder(lock)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        who = f"process {holder}" if holder else "another process"
        raise UserError(f"{path}: {who} is at work there; wait until it has ended, or stop it") from error
    except OSError as error:
        raise StorageError.of(path, error) from error
    try:
        Path(lock.lock_file).write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process writes a file or folder, then keep others waiting for as long as the block runs.

    Raises:
        StorageError: if the lock cannot be written, as the disk is read-only or full.
    """
    lock = _lock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise StorageError.of(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of(path, error) from error
    return FileLock(path.with_name(f".{path.name}.lock"))


def _read_holder(lock: FileLock) -> str:
    """The number of the process that holds a lock, or held it last; empty where it is not known."""
    try:
        return Path(lock.lock_file).read_text()
    except OSError:
        return ""
