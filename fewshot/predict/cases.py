"""Images as they are read, with their known masks and spacing."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from episodes.datasets.files import by_stem, files_below, is_image_file, why_unread
from episodes.datasets.folder_parts import parse_mask_name
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import decode_masks, read_image
from episodes.images.spacing import Spacing
from episodes.io.files import file_hash, real_path
from episodes.names import printable
from episodes.records import MaskFormat, Record, frame_stem
from fewshot.inference.inputs import Input, Spacings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image as it was read."""

    input: Input  # which
    image: NDArray[np.uint8]  # grey values, (H, W)
    spacing: Spacing | None  # millimetres from pixel to pixel (row, column), where known
    truth: NDArray[np.bool_] | None  # where its lesions are known to be, (H, W); None where that is not known
    inputs: str  # a hash of all that this was read from


Key = tuple[str, int]
Truths = Mapping[Key, tuple[Path, ...]]
"""Mask files by the `Input.key` of the image whose lesions they show."""
FullScales = Mapping[Key, float]
"""The value that is shown white of an image of more than 8 bits, by its `Input.key`."""


def find_truths(folder: Path, inputs: Sequence[Input]) -> tuple[Truths, dict[Path, str]]:
    """Find the masks of images in a folder, by their names.

    A mask bears its image's name, with an affix such as `_mask` or without, and lies in the same sub-folder as the
    image or, where no two images have the same name, anywhere. Several masks of an image are parts of one.

    Returns:
        The masks, and the other pictures in the folder, which are no image's masks, each with the reason.

    Raises:
        UserError: if there is no such folder, or no mask of any of the images in it.
    """
    if not folder.is_dir():
        raise UserError(f"--masks {folder}: there is no such folder; check the path")
    images = {real_path(one.path) for one in inputs}
    files = list(files_below(folder))
    left_out = {path: why for path in files if (why := why_unread(path))}
    masks = [path for path in files if path not in left_out and is_image_file(path) and real_path(path) not in images]
    beside, anywhere = _by_name(inputs)
    found: dict[Key, tuple[Path, ...]] = {}
    for place in {mask.parent for mask in masks}:
        by_stem(mask for mask in masks if mask.parent == place)  # an error where two differ in the suffix alone
    for mask in masks:
        same_folder = beside.get(PurePosixPath(printable(mask.relative_to(folder).as_posix())).parent, anywhere)
        if key := same_folder.meant(mask) or anywhere.meant(mask):
            found[key] = (*found.get(key, ()), mask)
        else:
            left_out[mask] = "a mask of none of the images, by its name"
    if not found:
        first = f" (first: {next(iter(left_out))}: {next(iter(left_out.values()))})" if left_out else ""
        raise UserError(f"--masks {folder}: none of its {len(left_out)} pictures can be the mask of an image{first}")
    return found, left_out


def read_truth(
    image: Path, masks: Sequence[Path], size: tuple[int, int], *, invert_masks: bool = False
) -> NDArray[np.bool_]:
    """Read where the masks of an image of this size show a lesion of any kind, (H, W); what is doubtful is logged.

    Raises:
        DatasetError: if one cannot be read, does not tell lesion from ground or has other proportions.
    """
    form: MaskFormat = "inverted" if invert_masks else "binary"
    found = decode_masks(Record("truth", image, tuple(masks), "unknown", patient="truth", mask_format=form), size)
    for doubt in found.doubts:
        logger.warning("%s", doubt)
    return found.labels > 0


@dataclass(frozen=True, slots=True)
class _Named:
    """Images by their names."""

    frames: dict[str, int] = field(default_factory=dict)  # how many each stem has
    keys: dict[tuple[str, int | None], Key] = field(default_factory=dict)  # of each stem and frame

    def add(self, one: Input) -> None:
        """Take in an image."""
        stem = frame_stem(one.path, None)
        self.frames[stem] = max(self.frames.get(stem, 1), one.frame or 1)
        self.keys[stem, one.frame] = one.key

    def meant(self, mask: Path) -> Key | None:
        """Return the key of the image whose mask a file is."""
        name = parse_mask_name(frame_stem(mask, None), self.frames, same_name=True)
        return None if name is None else self.keys.get((name.image, name.frame))


def _by_name(inputs: Sequence[Input]) -> tuple[dict[PurePosixPath, _Named], _Named]:
    """Return the images of each folder, and those of whose name there is no other file."""
    beside: dict[PurePosixPath, _Named] = {}
    anywhere = _Named()
    count = Counter(frame_stem(path, None) for path in {one.path for one in inputs})
    for one in inputs:
        beside.setdefault(PurePosixPath(one.image).parent, _Named()).add(one)
        if count[frame_stem(one.path, None)] == 1:
            anywhere.add(one)
    return beside, anywhere


class ImageReader:
    """Reads images one by one.

    Images of more than 8 bits without a full scale here fit their own; `invert_masks` says that the masks have a light
    ground.
    """

    def __init__(
        self, spacings: Spacings, truths: Truths, full_scales: FullScales | None = None, *, invert_masks: bool = False
    ) -> None:
        self.spacings = spacings
        self.truths = truths
        self.full_scales = full_scales or {}
        self.invert_masks = invert_masks
        self._hashed: tuple[Path, str] | None = None

    def hash(self, one: Input) -> str:
        """Hash all that the results of an image depend on beside the model: the files, their scale, and the spacing.

        Raises:
            DatasetError: if a file cannot be read.
        """
        files = [self._file_hash(one.path), *(_hash(path) for path in self.truths.get(one.key, ()))]
        facts = (files, one.frame, self.full_scales.get(one.key), self.spacings.of(one), self.invert_masks)
        return sha256(repr(facts).encode()).hexdigest()[:16]

    def read(self, one: Input) -> ReadImage:
        """Read the pixels of an image, and its mask where one is known.

        Raises:
            DatasetError: if a file cannot be read.
        """
        hashed = self.hash(one)
        image = read_image(one.path, one.frame, self.full_scales.get(one.key))
        masks = self.truths.get(one.key)
        truth = None
        if masks is not None:
            truth = read_truth(one.path, masks, (image.shape[0], image.shape[1]), invert_masks=self.invert_masks)
        return ReadImage(one, image, self.spacings.of(one), truth, hashed)

    def _file_hash(self, path: Path) -> str:
        """Return the hash of a file; kept for its other frames, which come next."""
        if self._hashed is None or self._hashed[0] != path:
            self._hashed = path, _hash(path)
        return self._hashed[1]


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); see that you may read it") from error
