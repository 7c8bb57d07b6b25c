"""From an uploaded file to a decoded image: the project's readers alone look into it."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from episodes.errors import UserError
from episodes.images.decoding import stretch_labels
from episodes.images.dicom_header import is_dicom, read_facts
from episodes.scoring.mask_scores import Spacing
from fewshot.api import grey_image, lesion_mask
from fewshot.demo.images import Limits, RefusedError, StoredImage
from fewshot.demo.sessions import Session
from fewshot.results.pictures import mask_png, png

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.bool_])

LONGEST_NAME = 120


def clean_name(name: str) -> str:
    r"""What an image is called: the last part of a path, without characters that steer a terminal or a table.

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
    """The suffix by which readers know a file's kind; empty where it is none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,6}", suffix) else ""


async def receive(body: AsyncIterator[bytes], session: Session, name: str) -> Path:
    """Write an upload to a file of the session.

    Raises:
        RefusedError: if it is empty or too large; nothing is left of it.
    """
    limits: Limits = session.limits
    path = session.folder / f"upload-{session.new_id()}{_suffix(name)}"
    with session.writing():
        room, size = session.bytes(), 0
        try:
            with path.open("wb") as file:
                async for part in body:
                    size += len(part)
                    limits.check_file(size, name)
                    limits.check_session(room + size)
                    file.write(part)
            if not size:
                raise RefusedError(f"{name}: the file is empty")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def take_image(upload: Path, session: Session, name: str) -> StoredImage:
    """Decode an uploaded image and keep its grey values; the upload is deleted.

    Raises:
        RefusedError: if it cannot be read.
    """
    image_id = session.new_id()
    with session.writing() as folder:
        spacing = _spacing(upload)
        grey = _read(upload, name, grey_image)
        path = folder / f"image-{image_id}.png"
        path.write_bytes(png(grey))
        session.limits.check_session(session.bytes())
        return StoredImage(image_id, name, path, (grey.shape[0], grey.shape[1]), spacing=spacing)


def _spacing(upload: Path) -> Spacing | None:
    """What a DICOM file says of its pixels' size; a file that cannot be read says nothing, and is refused later."""
    with suppress(UserError):
        return read_facts(upload).spacing if is_dicom(upload) else None
    return None


def take_mask(upload: Path, session: Session, name: str, image: StoredImage) -> NDArray[np.bool_]:
    """Read an uploaded mask (H, W) of an image; the upload is deleted.

    Raises:
        RefusedError: if it cannot be read, or is not of the image's size.
    """
    with session.writing():
        mask = _read(upload, name, lesion_mask)
    if mask.shape != image.size:
        sizes = [f"{width} x {height}" for height, width in (mask.shape, image.size)]
        raise RefusedError(f"{name}: is {sizes[0]} pixels, but {image.name} is {sizes[1]}; choose the image's own mask")
    return mask


def take_painting(upload: Path, session: Session, image: StoredImage, image_size: int) -> NDArray[np.bool_]:
    """Keep what was painted on an image, stretched to its own size; the upload is deleted.

    Args:
        upload: a mask, of the size at which the image was shown.
        session: whose image it is.
        image: what was painted on.
        image_size: the smallest working size of the models, at which something must be left of the lesion.

    Returns:
        The mask, (H, W).

    Raises:
        RefusedError: if nothing is painted, or everything, or too little to be seen.
    """
    with session.writing() as folder:
        painted = _read(upload, "the painting", lesion_mask)
        mask = stretch_labels(painted.astype(np.uint8), image.size) > 0
        if not mask.any():
            raise RefusedError(f"{image.name}: nothing is painted; outline the lesion, or remove the image")
        if mask.all():
            raise RefusedError(f"{image.name}: everything is painted; leave the tissue around the lesion unpainted")
        if not stretch_labels(mask.astype(np.uint8), (image_size, image_size)).any():
            raise RefusedError(
                f"{image.name}: too little is painted to be seen at {image_size} pixels; paint the whole lesion"
            )
        path = folder / f"mask-{image.id}.png"
        path.write_bytes(mask_png(mask))
        session.paint(image, path)
    return mask


def _read(upload: Path, name: str, reader: Callable[[Path, str], Pixels]) -> Pixels:
    """What a reader makes of an upload, which is deleted; its complaints name the user's file."""
    try:
        return reader(upload, name)
    except UserError as error:
        raise RefusedError(str(error).replace(str(upload), name)) from error
    finally:
        upload.unlink(missing_ok=True)
