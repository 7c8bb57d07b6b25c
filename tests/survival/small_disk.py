"""A disk of a few megabytes that one process and its children see, to be filled or made read-only."""

import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # see unshare(2)
_PAGE = 4096


def try_mount(folder: Path) -> None:
    """Exit with status 0 where such a disk can be made."""
    SmallDisk(folder)


def fill_up(before: Path, disk: Path, report: Path, room: int, command: Callable[[], None]) -> None:
    """Call a command with so many bytes left, then with enough, and write down how that went.

    Args:
        before: what lies on the disk at first.
        disk: an empty folder, where it is.
        report: a folder elsewhere; gets `full` and `complete`, what lay on the disk after each call, and
            `statuses.json`.
        room: left beside what lies there at first, in bytes.
        command: ends by `SystemExit`.
    """
    small = SmallDisk(disk, before)
    small.resize(small.used() + room)
    _call_twice(small, report, "full", command, lambda: small.resize(small.used() + 2**26))


def make_read_only(before: Path, disk: Path, report: Path, command: Callable[[], None]) -> None:
    """Call a command while nothing can be written, then once it can be again; see `fill_up`."""
    small = SmallDisk(disk, before)
    small.remount("ro")
    _call_twice(small, report, "read-only", command, lambda: small.remount("rw"))


def _call_twice(
    disk: "SmallDisk", report: Path, name: str, command: Callable[[], None], mend: Callable[[], None]
) -> None:
    statuses = []
    for stage in (name, "complete"):
        process = multiprocessing.get_context("fork").Process(target=_call, args=(disk.folder, command))
        process.start()
        process.join()
        statuses.append(process.exitcode)
        shutil.copytree(disk.folder, report / stage)
        mend()
    (report / "statuses.json").write_text(json.dumps(statuses))


def _call(folder: Path, command: Callable[[], None]) -> None:
    os.chdir(folder)
    command()


class SmallDisk:
    """A file system in memory, mounted on an empty folder for this process and its children alone."""

    def __init__(self, folder: Path, content: Path | None = None) -> None:
        self.folder = folder
        user, group = os.getuid(), os.getgid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_MOUNTS | _NEW_USER):
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _run("mount", "--make-rprivate", "/")
        _run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder))
        if content is not None:
            shutil.copytree(content, folder, dirs_exist_ok=True)

    def used(self) -> int:
        """Bytes in use."""
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def resize(self, size: int) -> None:
        """Let it hold so many bytes, in whole pages."""
        self.remount(f"size={max(1, size // _PAGE) * _PAGE}")

    def remount(self, option: str) -> None:
        _run("mount", "-o", f"remount,{option}", str(self.folder))


def needed(contents: Sequence[bytes]) -> int:
    """The bytes that files take on such a disk."""
    return sum(-(-len(content) // _PAGE) * _PAGE for content in contents)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
