"""The files and folders of an archive, and which names and kinds are unpacked."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from episodes.errors import DatasetError

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
