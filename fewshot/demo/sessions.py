"""The open pages, each with what its user has uploaded, in a temporary folder that only this user may read."""

import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from episodes.errors import StorageError, UserError
from episodes.images.decoding import read_size, stretch_labels
from episodes.images.dicom_header import DicomFacts, is_dicom, read_dicom_facts
from episodes.images.grey_scales import describe_full_scale, full_scales
from fewshot.api import grey_image, lesion_mask
from fewshot.demo.answers import SessionPredictions
from fewshot.demo.images import RefusedError, SessionLimits, StoredImage, painted_mask
from fewshot.results.pictures import mask_png, png

PRIVATE = 0o700
LONGEST_NAME = 120
ENDED = "the session has ended; reload the page to begin anew"

Kind = Literal["supports", "queries"]
Pixels = TypeVar("Pixels")


@dataclass(eq=False)
class Session:
    """One open page."""

    token: str  # known to that page alone
    folder: Path  # holds all its files
    limits: SessionLimits
    used: float = 0.0  # when it was last heard of, on the sessions' clock
    supports: dict[str, StoredImage] = field(default_factory=dict)  # annotated, in the order they were added
    queries: dict[str, StoredImage] = field(default_factory=dict)  # to segment, likewise
    predictions: SessionPredictions = field(default_factory=SessionPredictions)
    closed: bool = False  # its files are gone, and must not come back
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give the folder, for as long as something may be written there.

        Raises:
            RefusedError: if the session has ended, or ends meanwhile.
            StorageError: if the disk is full, or cannot be written to.
        """
        self.require_open()
        try:
            yield self.folder
        except OSError as error:
            self.require_open()  # if it was closed meanwhile, no wonder
            raise StorageError.of(self.folder, error) from error
        finally:
            if self.closed:  # what was written after the end, by whoever had begun before it
                shutil.rmtree(self.folder, ignore_errors=True)

    def require_open(self) -> None:
        """Refuse (`RefusedError`) to work for a page that was closed."""
        if self.closed:
            raise RefusedError(ENDED, 410)

    def close(self) -> None:
        """Delete everything."""
        self.closed = True
        self.supports.clear()
        self.queries.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_id(self) -> str:
        """Return an id that no image of this session has had."""
        return f"{next(self._numbers)}"

    def bytes(self) -> int:
        """Add up the sizes of all its files."""
        total = 0
        for file in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another request has just deleted it
                total += file.stat().st_size
        return total

    def add(self, kind: Kind, image: StoredImage) -> None:
        """Take in a decoded image as one of the `supports` or `queries`, as far as `check_room` allows."""
        try:
            self.check_room(kind)
        except RefusedError:
            image.path.unlink()
            raise
        self.images(kind)[image.id] = image

    def check_room(self, kind: Kind) -> None:
        """Refuse (`RefusedError`) one more of the `supports` or `queries` than may be."""
        most = self.limits.supports if kind == "supports" else self.limits.queries
        if len(self.images(kind)) >= most:
            what = "support images" if kind == "supports" else "images to segment"
            raise RefusedError(f"{most} {what} are the most; remove one first")

    def images(self, kind: Kind) -> dict[str, StoredImage]:
        """Return the `supports` or `queries` by id."""
        return self.supports if kind == "supports" else self.queries

    def find(self, kind: Kind, image_id: str) -> StoredImage:
        """Find one of the `supports` or `queries`; refuse (`RefusedError`) what is not there any more."""
        image = self.images(kind).get(image_id)
        if image is None:
            raise RefusedError("the image is not there any more", 404)
        return image

    def paint(self, image: StoredImage, mask: Path) -> None:
        """Give a support image its mask, in place of what was painted before."""
        if image.id in self.supports:
            self.supports[image.id] = replace(image, mask=mask, revision=image.revision + 1)

    def remove(self, kind: Kind, image_id: str) -> None:
        """Delete an image; nothing happens if it is gone already."""
        image = self.images(kind).pop(image_id, None)
        if image is not None:
            for file in filter(None, (image.path, image.mask)):
                file.unlink(missing_ok=True)

    @property
    def has_images(self) -> bool:
        """Tell whether there is anything that its user would lose."""
        return bool(self.supports or self.queries)

    def painted(self) -> list[StoredImage]:
        """Return the support images whose lesion is painted."""
        return [image for image in self.supports.values() if image.mask is not None]


class Sessions:
    """The sessions of one server, each in a folder of its own within the server's; the clock never runs backwards."""

    def __init__(self, folder: Path, limits: SessionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._folder = folder
        self._clock = clock
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Session:
        """Begin a session, if need be in place of an idle one, unless too many are in use (`RefusedError`)."""
        self.expire()
        if len(self._open) >= self.limits.sessions:
            self._make_room()
        token = secrets.token_urlsafe(32)
        # The folder's name is another secret: it shows in listings of the temporary folder.
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=PRIVATE)
        self._open[token] = Session(token, folder, self.limits, self._clock())
        return self._open[token]

    def _make_room(self) -> None:
        """End the session that loses least: one without images, or else the one that was not used for longest."""
        least = min(self._open.values(), key=lambda session: (session.has_images, session.used))
        if least.has_images and self._clock() - least.used < self.limits.yielding_seconds:
            raise RefusedError(f"{self.limits.sessions} pages are open already; close one and reload this one", 429)
        self.close(least.token)

    def find(self, token: str) -> Session:
        """Find the session of a token; refuse (`RefusedError`) where there is none, or none any more."""
        session = self._open.get(token)
        if session is None:
            raise RefusedError(ENDED, 410)
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


def clean_name(name: str) -> str:
    r"""Name an image: by the last part of a path, without characters that steer a terminal or a table.

    >>> clean_name("../a/b\x1b[1m.png"), clean_name("C:\\scans\\x.png"), clean_name(" ")
    ('b[1m.png', 'x.png', 'image')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    printable = "".join(letter for letter in last if letter.isprintable()).strip()
    if len(printable) > LONGEST_NAME:
        suffix = _suffix(printable)
        printable = printable[: LONGEST_NAME - len(suffix)] + suffix
    return printable or "image"


def _suffix(name: str) -> str:
    """Return the suffix by which readers know a file's kind; empty where it is none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,6}", suffix) else ""


async def receive(body: AsyncIterator[bytes], session: Session, name: str) -> Path:
    """Write an upload to a file of the session; nothing is left of it where it is refused, empty or too large."""
    path = session.folder / f"upload-{session.new_id()}{_suffix(name)}"
    with session.writing():
        room, size = session.bytes(), 0
        try:
            with path.open("wb") as file:
                async for part in body:
                    size += len(part)
                    session.limits.check_file(size, name)
                    session.limits.check_session(room + size)
                    file.write(part)
            if not size:
                raise RefusedError(f"{name}: the file is empty")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def take_image(upload: Path, session: Session, name: str) -> StoredImage:
    """Decode an uploaded image and keep its grey values; the upload is deleted, and refused if it cannot be read."""
    image_id = session.new_id()
    with session.writing() as folder:
        facts = _dicom_facts(upload)
        grey, scale = _read(upload, name, _grey_and_scale, session.limits)
        path = folder / f"image-{image_id}.png"
        path.write_bytes(png(grey))
        session.limits.check_session(session.bytes())
        told = "" if scale is None else describe_full_scale(scale)
        return StoredImage(
            image_id,
            name,
            path,
            (grey.shape[0], grey.shape[1]),
            spacing=None if facts is None else facts.spacing,
            grey_scale=told,
            shows_names=facts is not None and facts.shows_names,
        )


def _grey_and_scale(upload: Path, name: str) -> tuple[NDArray[np.uint8], float | None]:
    """Read the grey values of an upload, and which of more than 8 bits is shown white: its own have to tell."""
    (scale,) = full_scales([(upload, None)])
    return grey_image(upload, name, scale), scale


def _dicom_facts(upload: Path) -> DicomFacts | None:
    """Read a DICOM file's header; a file that cannot be read says nothing, and is refused later."""
    with suppress(UserError):
        return read_dicom_facts(upload) if is_dicom(upload) else None
    return None


def take_mask(upload: Path, session: Session, name: str, image: StoredImage) -> NDArray[np.bool_]:
    """Read an uploaded mask (H, W), which must be of the image's size; the upload is deleted."""
    with session.writing():
        mask = _read(upload, name, lesion_mask, session.limits)
    if mask.shape != image.size:
        sizes = [f"{width} x {height}" for height, width in (mask.shape, image.size)]
        raise RefusedError(f"{name}: is {sizes[0]} pixels, but {image.name} is {sizes[1]}; choose the image's own mask")
    return mask


def take_painting(upload: Path, session: Session, image: StoredImage) -> NDArray[np.bool_]:
    """Keep what was painted on an image, a mask (H, W) stretched to its own size; the upload is deleted.

    Raises:
        RefusedError: if nothing is painted, or everything.
    """
    with session.writing() as folder:
        painted = _read(upload, "the painting", lambda path, _: painted_mask(path), session.limits)
        mask = stretch_labels(painted.astype(np.uint8), image.size) > 0
        if not mask.any():
            raise RefusedError(f"{image.name}: nothing is painted; outline the lesion, or remove the image")
        if mask.all():
            raise RefusedError(f"{image.name}: everything is painted; leave the tissue around the lesion unpainted")
        path = folder / f"mask-{image.id}.png"
        path.write_bytes(mask_png(mask))
        session.paint(image, path)
    return mask


def _read(upload: Path, name: str, reader: Callable[[Path, str], Pixels], limits: SessionLimits) -> Pixels:
    """Read an upload, which is deleted; the reader's complaints name the user's file."""
    try:
        limits.check_side(*read_size(upload), name)
        return reader(upload, name)
    except RefusedError:
        raise
    except UserError as error:
        raise RefusedError(str(error).replace(str(upload), name)) from error
    finally:
        upload.unlink(missing_ok=True)
