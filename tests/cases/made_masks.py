"""Masks as people save them: each kind writes a lesion (H, W) to a file in its own way, varied at random."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Bool = NDArray[np.bool_]
Outcome = Literal["read", "refused", "doubted"]


def ellipse(size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]) -> Bool:
    y, x = np.ogrid[: size[0], : size[1]]
    shape: Bool = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
    return shape


def random_lesion(rng: np.random.Generator, size: tuple[int, int]) -> Bool:
    """A lobulated blob, now and then at the edge."""
    height, width = size
    centre = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    if rng.random() < 0.15:
        centre = centre[0], float(rng.choice([0, width - 1]))
    radius = rng.uniform(0.05, 0.22) * height
    lesion = ellipse(size, centre, (radius, radius * rng.uniform(0.8, 1.8)))
    for _ in range(3):
        offset = rng.uniform(-0.7, 0.7, 2) * radius
        lesion |= ellipse(size, (centre[0] + offset[0], centre[1] + offset[1]), (radius * 0.5, radius * 0.6))
    return lesion


def texture(rng: np.random.Generator, lesion: Bool) -> NDArray[np.uint8]:
    """A grey picture of the lesion, with speckle; some with black margins."""
    speckle = ndimage.gaussian_filter(rng.gamma(2, 1, lesion.shape), rng.uniform(0.5, 1.5))
    tissue = np.where(lesion, 0.4, 1) * speckle * ndimage.gaussian_filter(rng.uniform(0.6, 1.4, lesion.shape), 12)
    grey = np.clip(tissue / np.quantile(tissue, 0.995) * 255, 0, 255).astype(np.uint8)
    margin = int(rng.choice([0, 0, lesion.shape[1] // 8]))
    grey[:, :margin] = 0
    return grey


def levels(lesion: Bool, ground: Any, marked: Any, dtype: Any = np.uint8) -> NDArray[Any]:
    """The two values or colours."""
    return np.array([ground, marked], dtype)[lesion.astype(int)]


def png(pixels: NDArray[Any]) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels).save(path)


def palette(indices: NDArray[Any], *colours: tuple[int, int, int]) -> Callable[[Path], None]:
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette([channel for colour in colours for channel in colour])
    return image.save


def colour_map(lesion: NDArray[Any], name: str) -> Callable[[Path], None]:
    """As matplotlib's imsave writes it."""
    values = lesion.astype(float) / max(lesion.max(), 1)
    return png((colormaps[name](values) * 255).round().astype(np.uint8))


def compressed(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from io import BytesIO

    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def smooth(lesion: Bool, scale: int) -> NDArray[np.uint8]:
    """Edges as of a resampling with blends."""
    height, width = lesion.shape
    small = Image.fromarray(levels(lesion, 0, 255)).resize((width // scale, height // scale), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def two_lesions(lesion: Bool) -> tuple[Bool, Bool]:
    """The lesion, and another one that does not touch it."""
    far = ndimage.distance_transform_edt(~lesion)
    place = np.unravel_index(far.argmax(), far.shape)
    radius = float(min(far.max() / 2, 0.1 * lesion.shape[0]))
    return lesion, ellipse((lesion.shape[0], lesion.shape[1]), (float(place[0]), float(place[1])), (radius, radius))


@dataclass(frozen=True)
class Made:
    """What was written: with which lesion, and what is right."""

    save: Callable[[Path], None]
    lesion: Bool
    outcome: Outcome = "read"
    suffix: str = ".png"
    lossy: bool = False


Kind = Callable[[np.random.Generator, Bool], Made]
KINDS: dict[str, Kind] = {}


def kind(make: Kind) -> Kind:
    KINDS[make.__name__] = make
    return make


def _define(name: str, make: Callable[[np.random.Generator, Bool], Callable[[Path], None]], **facts: Any) -> None:
    KINDS[name] = lambda rng, lesion: Made(make(rng, lesion), lesion, **facts)


def _rgba(lesion: Bool, ground: tuple[int, ...], marked: tuple[int, ...]) -> Callable[[Path], None]:
    return png(levels(lesion, ground, marked))


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _unlike(rng: np.random.Generator, other: tuple[int, int, int]) -> tuple[int, int, int]:
    while True:
        found = _colour(rng)
        if max(abs(a - b) for a, b in zip(found, other, strict=True)) >= 60:
            return found


_define("0 and 255", lambda rng, a: png(levels(a, 0, 255)))
_define("0 and 1", lambda rng, a: png(levels(a, 0, 1)))
_define("0 and any", lambda rng, a: png(levels(a, 0, int(rng.integers(2, 255)))))
_define("1 bit", lambda rng, a: png(a))
_define("16 bit", lambda rng, a: png(levels(a, 0, int(rng.integers(1, 65536)), np.uint16)))
_define("colour on black", lambda rng, a: png(levels(a, (0, 0, 0), _unlike(rng, (0, 0, 0)))))
_define("float TIFF", lambda rng, a: png(levels(a, 0.0, float(rng.choice([1, 255])), np.float32)), suffix=".tiff")
_define("alpha over black", lambda rng, a: _rgba(a, (0, 0, 0, 0), (0, 0, 0, 255)))
_define("alpha over white", lambda rng, a: _rgba(a, (255, 255, 255, 0), (255, 255, 255, 255)))
_define("alpha over a colour", lambda rng, a: _rgba(a, (*(c := _colour(rng)), 0), (*c, int(rng.integers(60, 256)))))
_define("alpha of grey", lambda rng, a: png(levels(a, (255, 0), (255, 255))))
_define("black on clear white", lambda rng, a: _rgba(a, (255, 255, 255, 0), (0, 0, 0, 255)))
_define("white on opaque black", lambda rng, a: _rgba(a, (0, 0, 0, 255), (255, 255, 255, 255)))
_define("palette", lambda rng, a: palette(a, g := _colour(rng), _unlike(rng, g)))
_define("palette, ground white", lambda rng, a: palette(a, (255, 255, 255), (0, 0, 0)))
_define("palette, ground grey", lambda rng, a: palette(a, (224, 224, 192), (128, 0, 0)))
_define("palette all black", lambda rng, a: palette(a, (0, 0, 0), (0, 0, 0)))
_define("palette, ground second", lambda rng, a: palette(~a, (255, 255, 255), (0, 0, 0)))
for _name in ("viridis", "coolwarm", "tab10", "Reds", "jet", "hot", "gray", "Blues", "magma", "plasma", "Set1"):
    _define(f"imsave {_name}", lambda rng, a, n=_name: colour_map(a, n))
for _name in ("gray_r", "Greys", "binary"):
    _define(f"imsave {_name}", lambda rng, a, n=_name: colour_map(a, n), outcome="refused")
_define("inverted", lambda rng, a: png(levels(a, 255, 0)), outcome="refused")
_define("inverted 0 and 1", lambda rng, a: png(levels(a, 1, 0)), outcome="refused")
_define("inverted 1 bit", lambda rng, a: png(~a), outcome="refused")
_define("inverted JPEG", lambda rng, a: png(compressed(levels(a, 255, 0), 80)), outcome="refused")
_define("all white", lambda rng, a: png(np.full(a.shape, 255, np.uint8)), outcome="refused")
_define("one colour", lambda rng, a: png(levels(a & False, _unlike(rng, (0, 0, 0)), (0, 0, 0))), outcome="refused")
_define("the image", lambda rng, a: png(texture(rng, a)), outcome="refused")
_define("the image as JPEG", lambda rng, a: png(compressed(texture(rng, a), 85)), outcome="refused")


@kind
def instances(rng: np.random.Generator, lesion: Bool) -> Made:
    """Two lesions of two levels, the lower one of any."""
    one, other = two_lesions(lesion)
    low, high = np.sort(rng.choice(np.arange(1, 256), 2, replace=False))
    return Made(png((one * low + other * high).astype(np.uint8)), one | other)


@kind
def instances_16_bit(rng: np.random.Generator, lesion: Bool) -> Made:
    one, other = two_lesions(lesion)
    low, high = np.sort(rng.choice(np.arange(1, 3000), 2, replace=False))
    return Made(png((one * low + other * high).astype(np.uint16)), one | other)


@kind
def instances_colour_map(rng: np.random.Generator, lesion: Bool) -> Made:
    one, other = two_lesions(lesion)
    return Made(colour_map(one * 1.0 + other * 2.0, str(rng.choice(["viridis", "tab10", "jet", "Set1"]))), one | other)


@kind
def instances_lossy(rng: np.random.Generator, lesion: Bool) -> Made:
    one, other = two_lesions(lesion)
    pixels = (one * 100 + other * 200).astype(np.uint8)
    return Made(png(compressed(pixels, int(rng.integers(50, 96)))), one | other, lossy=True)


@kind
def jpeg(rng: np.random.Generator, lesion: Bool) -> Made:
    pixels = compressed(levels(lesion, 0, 255), int(rng.integers(20, 101)))
    return Made(png(pixels), lesion, lossy=True)


@kind
def jpeg_of_colours(rng: np.random.Generator, lesion: Bool) -> Made:
    ground = ((0, 0, 0), (68, 1, 84), (58, 76, 192))[int(rng.integers(3))]
    marked = {0: (0, 255, 0), 68: (253, 231, 36), 58: (179, 3, 38)}[ground[0]]
    return Made(png(compressed(levels(lesion, ground, marked), int(rng.integers(60, 101)))), lesion, lossy=True)


@kind
def smooth_edges(rng: np.random.Generator, lesion: Bool) -> Made:
    return Made(png(smooth(lesion, int(rng.integers(2, 5)))), lesion, lossy=True)


@kind
def few_blends(rng: np.random.Generator, lesion: Bool) -> Made:
    return Made(png((smooth(lesion, 2) // 64 * 64).astype(np.uint8)), lesion, lossy=True)


@kind
def smooth_alpha(rng: np.random.Generator, lesion: Bool) -> Made:
    pixels = np.full((*lesion.shape, 4), 255, np.uint8)
    pixels[..., 3] = smooth(lesion, 2)
    return Made(png(pixels), lesion, lossy=True)


@kind
def overlay(rng: np.random.Generator, lesion: Bool) -> Made:
    grey = np.stack([texture(rng, lesion)] * 3, axis=2).astype(float)
    grey[lesion] = 0.5 * grey[lesion] + 0.5 * np.array(_unlike(rng, (0, 0, 0)))
    return Made(png(grey.astype(np.uint8)), lesion, "refused")


@kind
def outlined_image(rng: np.random.Generator, lesion: Bool) -> Made:
    grey = np.stack([texture(rng, lesion)] * 3, axis=2)
    grey[lesion & ~ndimage.binary_erosion(lesion, iterations=2)] = (255, 0, 0)
    return Made(png(grey), lesion, "refused")


@kind
def outline(rng: np.random.Generator, lesion: Bool) -> Made:
    inner = ndimage.binary_erosion(lesion, iterations=int(rng.integers(1, 4)), border_value=1)
    return Made(png(levels(lesion & ~inner, 0, 255)), lesion, "doubted" if inner.any() else "read")


@kind
def open_outline(rng: np.random.Generator, lesion: Bool) -> Made:
    inner = ndimage.binary_erosion(lesion, iterations=2, border_value=1)
    line = lesion & ~inner
    rows = np.argwhere(line)
    line[: int(np.quantile(rows[:, 0], 0.2))] = False
    return Made(png(levels(line, 0, 255)), lesion, "doubted")


@kind
def speckle(rng: np.random.Generator, lesion: Bool) -> Made:
    return Made(png(levels(rng.random(lesion.shape) < rng.uniform(0.01, 0.2), 0, 255)), lesion, "doubted")


@kind
def dashed_outline(rng: np.random.Generator, lesion: Bool) -> Made:
    line = lesion & ~ndimage.binary_erosion(lesion, iterations=2, border_value=1)
    y, x = np.indices(lesion.shape)
    gaps = (np.hypot(y, x) // 4).astype(int) % 2 == 0
    return Made(png(levels(line & gaps, 0, 255)), lesion, "doubted")


@kind
def nested_levels(rng: np.random.Generator, lesion: Bool) -> Made:
    inner = ndimage.binary_erosion(lesion, iterations=4)
    return Made(png((lesion * 127 + inner * 128).astype(np.uint8)), lesion, "doubted" if inner.any() else "read")


@kind
def framed(rng: np.random.Generator, lesion: Bool) -> Made:
    return Made(png(levels(lesion | _frame(lesion, int(rng.integers(1, 4))), 0, 255)), lesion, "refused")


@kind
def inverted_in_a_frame(rng: np.random.Generator, lesion: Bool) -> Made:
    small = lesion & ~_frame(lesion, 4)
    return Made(png(levels(small | _frame(lesion, int(rng.integers(1, 4))), 255, 0)), small, "doubted")


@kind
def layers_of_tissue(rng: np.random.Generator, lesion: Bool) -> Made:
    """Skin and fat marked as well as the lesion, each at its level, with the rest at 0."""
    depth = np.indices(lesion.shape)[0] / lesion.shape[0]
    layers = np.where(depth < rng.uniform(0.1, 0.2), 85, np.where(depth < rng.uniform(0.3, 0.4), 170, 0))
    return Made(png(np.where(lesion, 255, layers).astype(np.uint8)), lesion, "doubted")


def _frame(lesion: Bool, width: int) -> Bool:
    return ~np.pad(np.ones([side - 2 * width for side in lesion.shape], np.bool_), width)


@kind
def probabilities(rng: np.random.Generator, lesion: Bool) -> Made:
    soft = ndimage.gaussian_filter(lesion.astype(np.float32), 12)
    return Made(png(soft / soft.max()), lesion, "refused", ".tiff")


@kind
def empty(rng: np.random.Generator, lesion: Bool) -> Made:
    none = lesion & False
    mode = str(rng.choice(["1", "L", "RGB", "P", "I;16"]))
    pixels = none if mode == "1" else none.astype(np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(pixels)
    return Made((image.convert(mode) if mode in ("RGB", "P") else image).save, none)


def dice(one: Bool, other: Bool) -> float:
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


MADE: Mapping[str, Kind] = KINDS
