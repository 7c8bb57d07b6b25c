"""Paired augmentation of an image and its label map, a pure function of both and a seed."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from threading import get_ident
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
Strength = Literal["none", "light", "strong", "elastic"]


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Ranges of the changes, both ways unless said otherwise."""

    rotation: float  # degrees
    scale: float  # share of the size
    shift: float  # share of the image's side
    contrast: float  # share of contrast, and of the mean brightness
    gamma: float  # share of the exponent
    blur: float  # largest standard deviation, pixels
    speckle: float  # share of each pixel's brightness
    bend: float = 0.0  # how far pixels move, elastically, share of the image's side


# What another hand, gain or machine changes. Nothing but `elastic` bends, and nothing shears or stretches: a lesion's
# shape, by which benign and malignant differ, stays what it is.
_STRONG = _Ranges(rotation=20, scale=0.25, shift=0.1, contrast=0.25, gamma=0.4, blur=1.2, speckle=0.15)
_RANGES: Mapping[Strength, _Ranges] = {
    "light": _Ranges(rotation=10, scale=0.1, shift=0.05, contrast=0.1, gamma=0.2, blur=0.7, speckle=0.05),
    "strong": _STRONG,
    "elastic": replace(_STRONG, bend=0.03),
}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random but reproducible changes of an ultrasound image that leave its lesion a lesion.

    Geometry (mirroring left to right, small rotation, scale and shift) moves image and labels together; gain
    (brightness, contrast, gamma), blur and speckle change the image alone. Never upside down: sound enters at
    the top, and shadows lie below what casts them. What moves in from outside the image is black background.

    The strength says how far the changes go; `none` returns the pair as it is, `elastic` bends it as well, as tissue
    under a probe does.

    >>> image, labels = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    >>> labels[20:40, 20:40] = 2
    >>> augmented, moved = Augmentation("light")(image, labels, seed=7)
    >>> augmented.shape, np.unique(moved).tolist()
    ((64, 64), [0, 2])
    """

    strength: Strength

    def __post_init__(self) -> None:
        if self.strength not in get_args(Strength):
            raise ValueError(f"strength is one of {', '.join(get_args(Strength))}, not {self.strength!r}")

    def __call__(self, image: ByteArray, label_map: ByteArray, *, seed: int) -> tuple[ByteArray, ByteArray]:
        """Change a grey image with its labels, both (H, W) uint8, in the way that a seed, not negative, says.

        Equal inputs and seeds give equal results in any order, thread or process. No label but 0 is new, and a lesion
        at the rim can leave the image. Other arrays are a `ValueError`.
        """
        require_pair(image, label_map)
        if self.strength == "none":
            return image, label_map
        pipeline = _pipeline(self.strength, get_ident())
        # One stream for all changes, anew for every item. In albumentations 2.0 `set_random_seed` gives every
        # change a stream of the same seed, so that all of them happen together or none; and without either,
        # the workers of a data loader repeat each other.
        pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        changed = pipeline(image=image, mask=label_map)
        return changed["image"], changed["mask"]


def require_pair(image: ByteArray, label_map: ByteArray) -> None:
    """Raise a `ValueError` unless a grey image and its labels are both uint8 (H, W), and of one shape."""
    for name, array in (("image", image), ("label map", label_map)):
        if array.dtype != np.uint8 or array.ndim != 2:
            raise ValueError(f"{name} must be a uint8 array (H, W), not {array.dtype} {array.shape}")
    if image.shape != label_map.shape:
        raise ValueError(f"image {image.shape} and label map {label_map.shape} differ in shape")


def augmentation_seed(*numbers: int) -> int:
    """Make one 31-bit seed of several numbers that are not negative, equal on every machine.

    >>> augmentation_seed(0, 7) == augmentation_seed(0, 7) != augmentation_seed(7, 0)
    True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


@cache
def _pipeline(strength: Strength, thread: int) -> Any:  # noqa: ARG001 - a pipeline holds the state of its one caller
    """Build the albumentations pipeline of a strength, once per process and thread."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or the import asks the network for a newer version
    import albumentations as A
    import cv2

    cv2.setNumThreads(0)  # images are small, and processes run side by side
    ranges = _RANGES[strength]
    elastic = A.ThinPlateSpline(
        scale_range=(0.0, ranges.bend),
        num_control_points=4,
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        p=0.3,
    )
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            *([elastic] if ranges.bend else []),
            A.Affine(
                rotate=(-ranges.rotation, ranges.rotation),
                scale=(1 - ranges.scale, 1 + ranges.scale),
                translate_percent=(-ranges.shift, ranges.shift),
                keep_ratio=True,
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                p=0.8,
            ),
            A.RandomBrightnessContrast(ranges.contrast, ranges.contrast, brightness_by_max=False, p=0.5),
            A.RandomGamma((100 * (1 - ranges.gamma), 100 * (1 + ranges.gamma)), p=0.3),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, ranges.blur), p=0.2),
            A.MultiplicativeNoise((1 - ranges.speckle, 1 + ranges.speckle), elementwise=True, p=0.2),
        ]
    )
