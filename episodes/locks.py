"""Locks between processes, so that what one writes is not written by another at the same time.

The operating system frees a lock when its process ends, however it ends, so none is ever left over; the lock's file,
`.NAME.lock`, may be, and does no harm. It lies beside a folder and not in it, so that the folder can be replaced while
it is locked. Within one thread a lock can be taken again by who has it.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from episodes.errors import StorageError, UserError
from episodes.files import remove_leftovers


@contextmanager
def only_process(path: Path) -> Iterator[None]:
    """Be the only process that writes a file or folder for as long as the block runs.

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
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process writes a file or folder, then keep others waiting for as long as the block runs.

    Raises:
        StorageError: if the lock cannot be written, as the disk is read-only or full.
    """
    with _locked(path, *_lock_file(path), blocking=True):
        yield


def _lock_file(path: Path) -> tuple[Path, list[Path]]:
    """Where a lock's file lies, and the folders that had to be made for it, the innermost first."""
    place = path.resolve()
    missing = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError.of(path, error) from error
    if not place.name or (place.is_dir() and not os.access(place.parent, os.W_OK)):
        return place / ".lock", missing  # the user's own folder in one of somebody else's, such as a mounted volume
    return place.with_name(f".{place.name}.lock"), missing


@contextmanager
def _locked(path: Path, file: Path, made: list[Path], *, blocking: bool) -> Iterator[None]:
    """Hold a lock; where nothing was written meanwhile, nothing is left."""
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(blocking=blocking)
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


def _read_holder(file: Path) -> str:
    """The process that holds a lock, or held it last; empty where it is not known."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
