"""The open pages, each with a temporary folder that only this user may read, and what ends them."""

import asyncio
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from episodes.errors import StorageError, UserError
from episodes.io.files import exclusive_lock
from fewshot.demo.answers import SessionPredictions
from fewshot.demo.images import Limits, RefusedError, StoredImage

Result = TypeVar("Result")


class Worker:
    """Does one thing after another, in a thread of its own.

    Args:
        name: of the thread.

    Attributes:
        waiting: how many things are being done or wait to be.
    """

    def __init__(self, name: str) -> None:
        self.waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function when its turn comes, and wait for what it returns or raises."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Begin nothing more; what is being done is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass(eq=False)
class Session:
    """One open page.

    Attributes:
        token: known to that page alone.
        folder: holds all its files.
        limits: what it may bring.
        used: when it was last heard of, on the sessions' clock.
        supports: annotated images, in the order they were added.
        queries: images to segment, likewise.
        predictions: what methods have made of the images.
        closed: whether it has ended: its files are gone, and must not come back.
    """

    token: str
    folder: Path
    limits: Limits
    used: float = 0.0
    supports: dict[str, StoredImage] = field(default_factory=dict)
    queries: dict[str, StoredImage] = field(default_factory=dict)
    predictions: SessionPredictions = field(default_factory=SessionPredictions)
    closed: bool = False
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """The folder, for as long as something may be written there.

        Raises:
            RefusedError: if the session has ended, or ends meanwhile.
            StorageError: if the disk is full, or cannot be written to.
        """
        self._require_open()
        try:
            yield self.folder
        except OSError as error:
            self._require_open()  # if it was closed meanwhile, no wonder
            raise StorageError.of(self.folder, error) from error
        finally:
            self._sweep()

    def _require_open(self) -> None:
        if self.closed:
            raise RefusedError("the session has ended; reload the page to begin anew", 410)

    def _sweep(self) -> None:
        """Delete what was written after the end by whoever had begun before it."""
        if self.closed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete everything."""
        self.closed = True
        self.supports.clear()
        self.queries.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_id(self) -> str:
        """An id that no image of this session has had."""
        return f"{next(self._numbers)}"

    def bytes(self) -> int:
        """The size of all its files."""
        total = 0
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another request has just deleted it
                total += file.stat().st_size
        return total

    def add(self, kind: str, image: StoredImage) -> None:
        """Take in a decoded image as one of the `supports` or `queries`.

        Raises:
            RefusedError: if there are as many as may be.
        """
        try:
            self.check_room(kind)
        except RefusedError:
            image.path.unlink()
            raise
        self.images(kind)[image.id] = image

    def check_room(self, kind: str) -> None:
        """Refuse one more of the `supports` or `queries` than may be.

        Raises:
            RefusedError: says the limit.
        """
        most = self.limits.supports if kind == "supports" else self.limits.queries
        if len(self.images(kind)) >= most:
            what = "support images" if kind == "supports" else "images to segment"
            raise RefusedError(f"{most} {what} are the most; remove one first")

    def images(self, kind: str) -> dict[str, StoredImage]:
        """The `supports` or `queries` by id."""
        return self.supports if kind == "supports" else self.queries

    def find(self, kind: str, image_id: str) -> StoredImage:
        """One of the `supports` or `queries`.

        Raises:
            RefusedError: if it is not there any more.
        """
        image = self.images(kind).get(image_id)
        if image is None:
            raise RefusedError("the image is not there any more", 404)
        return image

    def paint(self, image: StoredImage, mask: Path) -> None:
        """Give a support image its mask, in place of what was painted before."""
        if image.id in self.supports:
            self.supports[image.id] = replace(image, mask=mask, revision=image.revision + 1)

    def remove(self, kind: str, image_id: str) -> None:
        """Delete an image; nothing happens if it is gone already."""
        image = self.images(kind).pop(image_id, None)
        if image is not None:
            for file in (image.path, image.mask):
                if file is not None:
                    file.unlink(missing_ok=True)

    def painted(self) -> list[StoredImage]:
        """The support images whose lesion is painted."""
        return [image for image in self.supports.values() if image.mask is not None]


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
    with exclusive_lock(folder):
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
                with exclusive_lock(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            except UserError:  # its server is alive
                continue
