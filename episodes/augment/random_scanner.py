"""Random scanners: one draw of what tells a machine's images from another's, applied to recorded images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from episodes.augment.transforms import ByteArray, augmentation_seed, require_pair

FloatArray = NDArray[np.floating[Any]]  # float32 in fact

Pair = tuple[ByteArray, ByteArray]
ScannerChoice = Literal["recorded", "random"]

LEVELS = 1024  # of the table that maps grey levels, finer than what a display shows
BLACK = 0.08  # grey level from which a pixel is taken for an echo; below it changes fade, so that black stays black
NOISE_FLOOR = 0.2  # of speckle, as a share of its mean power; without one, its zeros are bottomless
MARGIN = 0.05  # share of the frame that a zoomed lesion keeps from its rim
NARROWEST = 0.25  # pixels; a narrower blur changes nothing


@dataclass(frozen=True, slots=True)
class RandomScanner:
    """A scanner as a chain of changes to a B-mode image, in the order in which a machine makes them.

    Grey levels are those of a log-compressed image, in [0, 1]: gain and speckle, which multiply the echo, add to
    them. Lengths are shares of the image's height, so that they mean the same at any working size. Whatever is
    drawn, brighter echoes stay brighter (nothing is inverted), black margins stay black, and image and labels move
    together. Images of one scanner share all attributes; each has a speckle pattern and a contact with the
    skin of its own.

    >>> image, labels = np.full((64, 64), 100, np.uint8), np.zeros((64, 64), np.uint8)
    >>> scanner = RandomScanner.draw(7)
    >>> scanned, _ = scanner(image, labels, seed=0)
    >>> scanner == RandomScanner.draw(7), scanned.shape
    (True, (64, 64))
    """

    zoom: float  # magnification: above 1 the scanner shows less depth than was recorded, below 1 more
    smoothing: float  # share of a median filter in the image: speckle reduction
    blur: tuple[float, float]  # standard deviations of the point spread at the probe, axial and lateral
    defocus: float  # point spread at the bottom over that at the probe
    sharpening: float  # weight of edge enhancement
    brightness: float  # mean grey level of tissue that the operator sets the gain for, before the grey map
    regulation: float  # share of an image's distance from that brightness which the gain makes up for
    compensation: tuple[float, ...]  # time-gain compensation at equal depths from top to bottom, grey levels
    shading: float  # how far bad contact changes the gain across the image, grey levels
    speckle: float  # standard deviation of speckle, grey levels
    grain: tuple[float, float]  # standard deviations of its correlation, axial and lateral
    lines: float  # amplitude of a pattern of scan lines, grey levels
    line_spacing: float  # from one line to the next
    window: tuple[float, float]  # grey levels that are shown as black and as white
    gamma: float  # exponent of the grey map; above 1 it darkens the mid-greys
    steepness: float  # share of an S-shaped curve in the grey map: more contrast in the mid-greys

    @classmethod
    def draw(cls, seed: int) -> "RandomScanner":
        """Draw the scanner of a seed (not negative): anything from the recorded one to one that hardly resembles it.

        A strength in [0, 1], rarely near 0, scales how far all attributes may be from the recorded scanner's.
        """
        rng = np.random.default_rng(seed)
        strength = float(np.sqrt(rng.uniform()))

        def upto(most: float) -> float:
            return strength * most * float(rng.uniform())

        def within(most: float) -> float:
            return strength * most * float(rng.uniform(-1, 1))

        def times(most: float) -> float:
            return float(np.exp(within(np.log(most))))

        axial, grain = upto(0.006), 0.0035 * times(2.0)
        gamma = times(2.2)
        return cls(
            zoom=float(np.exp(strength * rng.uniform(np.log(0.8), np.log(1.5)))),
            smoothing=upto(1.0),
            blur=(axial, axial * (1 + 2 * float(rng.uniform()))),
            defocus=1 + upto(1.5),
            sharpening=upto(1.0),
            # What gamma darkens or brightens, the operator's gain makes up for in part.
            brightness=0.32 + within(0.12) + 0.2 * float(np.log(gamma)),
            regulation=strength * float(rng.uniform(0.5, 1)),
            compensation=tuple(within(0.14) for _ in range(5)),
            shading=upto(0.08),
            speckle=upto(0.08),
            grain=(grain, grain * (1 + 1.5 * float(rng.uniform()))),
            lines=upto(0.03),
            line_spacing=0.02 * times(2.0),
            window=(upto(0.06), 1 + within(0.25)),
            gamma=gamma,
            steepness=upto(0.6),
        )

    def __call__(self, image: ByteArray, label_map: ByteArray, *, seed: int) -> Pair:
        """Show a grey image with its labels, both (H, W) uint8, as this scanner would; no label but 0 is new.

        Each lesion stays in the frame: where the zoom would push one out, the frame follows it; where it would fill the
        frame, the zoom is less. The seed, not negative, is of what differs between images of one scanner. Other arrays
        are a `ValueError`.
        """
        require_pair(image, label_map)
        rng = np.random.default_rng(seed)
        image, label_map = zoomed(image, label_map, self.zoom)
        grey = self._resolved(image)
        echo = np.clip(grey / BLACK, 0, 1)
        gain = self.regulation * (self.brightness - float((echo * grey).sum() / max(float(echo.sum()), 1.0)))
        amplified = gain + self._amplification(grey.shape, rng)
        grey += echo * (amplified + np.float32(self.speckle) * self._speckle(grey.shape, rng))
        shown = self.grey_map().take((grey * (LEVELS - 1)).astype(np.intp), mode="clip")
        return shown, label_map

    def grey_map(self) -> ByteArray:
        """Return what each of `LEVELS` equally spaced grey levels is displayed as; never falls, (LEVELS,)."""
        black, white = self.window
        level = np.clip((np.linspace(0, 1, LEVELS) - black) / (white - black), 0, 1)
        level **= self.gamma
        level += self.steepness * (level * level * (3 - 2 * level) - level)
        return np.asarray(np.round(255 * level), np.uint8)

    def _resolved(self, image: ByteArray) -> FloatArray:
        """Apply speckle reduction, point spread and edge enhancement: grey levels, (H, W)."""
        height = len(image)
        filtered = _cv2().medianBlur(image, 5)
        grey = (image + self.smoothing * (filtered.astype(np.float32) - image)) / np.float32(255)
        axial, lateral = self.blur[0] * height, self.blur[1] * height
        near = blurred(grey, axial, lateral)
        far = blurred(grey, axial * self.defocus, lateral * self.defocus)
        grey = near + np.linspace(0, 1, height, dtype=np.float32)[:, None] * (far - near)
        edge = 0.01 * height
        return grey + np.float32(self.sharpening) * (grey - blurred(grey, edge, edge))

    def _amplification(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Draw what compensation, contact and scan lines add to each pixel, grey levels, (H, W)."""
        height, width = shape
        down = _curve(np.array(self.compensation), height)
        across = _curve(self.shading * rng.uniform(-1, 1, 4), width)
        phase = rng.uniform()
        across += self.lines * np.sin(2 * np.pi * (np.arange(width) / (self.line_spacing * height) + phase))
        return (down[:, None] + across).astype(np.float32)

    def _speckle(self, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Draw fully developed speckle after log compression: mean 0, standard deviation 1, (H, W).

        The envelope of a complex field, which is Rayleigh-distributed (Wagner et al. 1983). Blurred, uniform bytes
        are as good as normal numbers, at a tenth of the time.
        """
        white = np.frombuffer(rng.bytes(2 * shape[0] * shape[1]), np.int8).reshape(2, *shape).astype(np.float32)
        axial, lateral = self.grain[0] * shape[0], self.grain[1] * shape[0]
        real, imaginary = (blurred(part, axial, lateral) for part in white)
        power = real * real + imaginary * imaginary
        level = np.log(power + NOISE_FLOOR * power.mean())
        level -= level.mean()
        return np.asarray(level / level.std(), np.float32)


def rescan(pairs: Sequence[Pair], seed: int, index: int) -> list[Pair]:
    """Show all pairs of an image and its label map as one random scanner would, that of (seed, index).

    >>> pairs = [(np.full((64, 64), grey, np.uint8), np.zeros((64, 64), np.uint8)) for grey in (90, 160)]
    >>> dark, bright = rescan(pairs, seed=0, index=3)
    >>> bool(np.median(dark[0]) < np.median(bright[0]))
    True
    """
    # Numbers that end in 0 would give the seed of fewer numbers, that of the augmentation.
    scanner = RandomScanner.draw(augmentation_seed(seed, index, 0, 1))
    return [scanner(*pair, seed=augmentation_seed(seed, index, place, 2)) for place, pair in enumerate(pairs)]


def zoomed(image: ByteArray, label_map: ByteArray, zoom: float) -> Pair:
    """Magnify a pair, both (H, W) uint8, about the middle of its upper rim, and keep every lesion in the frame.

    The probe is at that rim. The result is black and 0 where nothing was recorded; where a label would be lost between
    the pixels, it is the pair as it was given.
    """
    cv2 = _cv2()
    height, width = image.shape
    left, top, wide, high = cv2.boundingRect(label_map)  # wide and high are 0 where there is no lesion
    largest = (1 - 2 * MARGIN) * min(width / max(wide, 1), height / max(high, 1))
    zoom = min(zoom, max(largest, 1.0))
    x = _window(width, width / zoom, (width - width / zoom) / 2, left, left + wide)
    y = _window(height, height / zoom, 0.0, top, top + high)
    # Pixel centres lie at halves, which OpenCV counts from 0.
    matrix = np.array([[1 / zoom, 0, x + 0.5 / zoom - 0.5], [0, 1 / zoom, y + 0.5 / zoom - 0.5]])
    size = (width, height)
    moved = cv2.warpAffine(label_map, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    if not np.array_equal(np.unique(moved[moved > 0]), np.unique(label_map[label_map > 0])):
        return image, label_map
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP), moved


def _window(side: int, shown: float, start: float, first: int, last: int) -> float:
    """Return where a frame that shows a part of a side starts, moved as little as needed to show [first, last)."""
    if shown >= side or first == last:
        return start
    margin = MARGIN * shown
    start = max(min(start, first - margin), last + margin - shown)
    return min(max(start, 0.0), side - shown)


def blurred(values: FloatArray, axial: float, lateral: float) -> FloatArray:
    """Convolve (H, W) with a Gaussian of these standard deviations, downwards and across, in pixels."""
    if max(axial, lateral) < NARROWEST:
        return values
    smooth: FloatArray = _cv2().sepFilter2D(values, -1, _kernel(lateral), _kernel(axial))
    return smooth


def _kernel(sigma: float) -> FloatArray:
    if sigma < NARROWEST:
        return np.ones(1, np.float32)
    reach = np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * (reach / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def _curve(knots: FloatArray, length: int) -> FloatArray:
    """Interpolate knots at equal distances at each of `length` places."""
    return np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)


@cache
def _cv2() -> Any:
    import cv2

    cv2.setNumThreads(0)  # images are small, and processes run side by side
    return cv2
