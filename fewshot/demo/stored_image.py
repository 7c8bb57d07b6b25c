"""An image that a user of the page has brought."""

from dataclasses import dataclass
from pathlib import Path

from episodes.metrics import Spacing


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image that a user has brought, decoded.

    Attributes:
        id: unique in its session.
        name: as the user's file is called; text, never a path.
        path: its grey values, as a PNG of the image's own size.
        size: (H, W).
        mask: the painted lesion, of the image's size; None as long as nothing is painted.
        revision: how often it was painted.
        spacing: millimetres from pixel to pixel (row, column), where the file says so.
    """

    id: str
    name: str
    path: Path
    size: tuple[int, int]
    mask: Path | None = None
    revision: int = 0
    spacing: Spacing | None = None
