"""How large the pixels of images are: as a table says, as DICOM says, or as the user says."""

import re
from math import isfinite
from pathlib import Path

from episodes.dicom import is_dicom, read_facts
from episodes.datasets.folder_layout import TABLE
from episodes.datasets.folder_parts import IMAGE_FOLDERS
from episodes.datasets.pictures import named_stem
from episodes.datasets.tables import read_table
from episodes.errors import UserError
from episodes.metrics import Spacing
from episodes.records import frame_stem
from fewshot.prediction.inputs import Input


class Spacings:
    """Millimetres from pixel to pixel (row, column) of images.

    A table `metadata.csv` beside the images, or beside their folder `images/`, comes first (columns `image` and
    `spacing_mm`, as the reader `folder` reads them), then what a DICOM file says of itself, then what holds for all
    others.

    Args:
        root: the folder of the images.
        otherwise: of images of which nothing else is known.

    Raises:
        UserError: if the table cannot be read.
    """

    def __init__(self, root: Path, otherwise: Spacing | None = None) -> None:
        self._otherwise = otherwise
        self._stated = _read_spacings(root)
        self._dicom: tuple[Path, Spacing | None] | None = None

    def of(self, image: Input) -> Spacing | None:
        """The spacing of an image, if it is known.

        Raises:
            DatasetError: if it is DICOM, and cannot be read.
        """
        for stem in (frame_stem(image.path, image.frame), frame_stem(image.path, None)):
            if stem in self._stated:
                return self._stated[stem]
        return self._of_file(image.path) or self._otherwise

    def _of_file(self, path: Path) -> Spacing | None:
        """What a file says of itself; kept for its other frames, which come next."""
        if self._dicom is None or self._dicom[0] != path:
            self._dicom = path, read_facts(path).spacing if is_dicom(path) else None
        return self._dicom[1]


def parse_spacing(text: str, origin: str) -> Spacing:
    """Read millimetres per pixel.

    Args:
        text: one number, or rows and columns as `0.1x0.12`.
        origin: where it stands, for errors.

    Raises:
        UserError: if it is no such size.

    >>> parse_spacing("0.1", "--spacing"), parse_spacing("0.1 x 0.12", "--spacing")
    ((0.1, 0.1), (0.1, 0.12))
    """
    try:
        numbers = [float(number) for number in re.split(r"\s*x\s*|\s+", text.strip())]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(isfinite(number) and number > 0 for number in numbers):
        raise UserError(f"{origin}: {text!r} is no size in millimetres; write such as 0.1 or 0.1x0.12")
    return numbers[0], numbers[-1]


def _read_spacings(root: Path) -> dict[str, Spacing]:
    """What the table beside the images says, by the stem of image or frame."""
    places = [root, *([root.parent] if root.resolve().name.lower() in IMAGE_FOLDERS else [])]
    tables = [place / TABLE for place in places if (place / TABLE).is_file()]
    rows = read_table(tables[0], ("image",)) if tables else []
    return {
        named_stem(row["image"]): parse_spacing(row["spacing_mm"], f"{tables[0]}, {row['image']}: spacing_mm")
        for row in rows
        if row.get("spacing_mm")
    }
