"""Zip archives: all headers lie together, so everything is known before anything is written."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from episodes.archives.limits import Budget
from episodes.archives.members import Member

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
