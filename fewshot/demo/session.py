"""What one open page has brought: files in a folder of its own, gone when the page is closed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from episodes.errors import StorageError
from fewshot.demo.answers import Answers
from fewshot.demo.limits import Limits, RefusedError
from fewshot.demo.stored_image import StoredImage


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
        answers: what methods have made of the images.
        closed: whether it has ended: its files are gone, and must not come back.
    """

    token: str
    folder: Path
    limits: Limits
    used: float = 0.0
    supports: dict[str, StoredImage] = field(default_factory=dict)
    queries: dict[str, StoredImage] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
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
