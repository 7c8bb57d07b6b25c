"""The open pages, each with a temporary folder that only this user may read, and what ends them."""

import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from episodes.errors import StorageError, UserError
from episodes.locks import only_process
from fewshot.demo.limits import Limits, RefusedError
from fewshot.demo.session import Session

PRIVATE = 0o700


class Sessions:
    """The sessions of one server.

    Args:
        folder: of this server alone; each session gets a folder in it.
        limits: of each session.
        clock: seconds that never run backwards.
    """

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._folder = folder
        self._clock = clock
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Session:
        """Begin a session.

        Raises:
            RefusedError: if too many are open.
        """
        self.expire()
        if len(self._open) >= self.limits.sessions:
            raise RefusedError(f"{self.limits.sessions} pages are open already; close one and reload this one", 503)
        token = secrets.token_urlsafe(32)
        # The folder's name is another secret: it shows in listings of the temporary folder.
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=PRIVATE)
        self._open[token] = Session(token, folder, self.limits, self._clock())
        return self._open[token]

    def find(self, token: str) -> Session:
        """The session of a token.

        Raises:
            RefusedError: if there is none, or none any more.
        """
        session = self._open.get(token)
        if session is None:
            raise RefusedError("the session has ended; reload the page to begin anew", 410)
        session.used = self._clock()
        return session

    def close(self, token: str) -> None:
        """End a session and delete its files; nothing happens if it has ended already."""
        session = self._open.pop(token, None)
        if session is not None:
            session.close()

    def expire(self) -> None:
        """End those that were not used for long."""
        now = self._clock()
        for session in list(self._open.values()):
            if now - session.used > self.limits.idle_seconds:
                self.close(session.token)

    def close_all(self) -> None:
        """End all."""
        for token in list(self._open):
            self.close(token)


@contextmanager
def server_folder() -> Iterator[Path]:
    """A temporary folder of this server, deleted at the end; what killed servers have left is deleted at the start.

    Raises:
        StorageError: if it cannot be made.
        UserError: if somebody else owns the place where it belongs.
    """
    above = Path(tempfile.gettempdir()) / f"fewshot-demo-{os.getuid()}"
    try:
        above.mkdir(mode=PRIVATE, exist_ok=True)
    except OSError as error:
        raise StorageError.of(above, error) from error
    _require_private(above)
    _delete_leftovers(above)
    folder = above / secrets.token_hex(8)
    # Locked before it is there: another server that starts now takes it for no leftover.
    with only_process(folder):
        folder.mkdir(mode=PRIVATE)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _require_private(folder: Path) -> None:
    """Refuse a folder that is a link, another user's, or open to others: temporary folders are shared."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise UserError(f"{folder}: is not a private folder of yours; remove it, or set TMPDIR to another place")


def _delete_leftovers(above: Path) -> None:
    for folder in above.iterdir():
        if folder.is_dir() and not folder.is_symlink():
            try:
                with only_process(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            except UserError:  # its server is alive
                continue
