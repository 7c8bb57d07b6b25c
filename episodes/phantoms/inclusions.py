"""Things embedded in the layers of the breast: lesions, fat lobules, ducts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from episodes.phantoms.textures import FloatArray, Grid, Tissue, ramp, ridge

ANGLES = np.linspace(-np.pi, np.pi, 720, endpoint=False, dtype=np.float32)


def ellipse(aspect: float, tilt: float) -> FloatArray:
    """Return the radius, at each of `ANGLES`, of an ellipse of unit mean square radius, tilted by so many radians.

    `aspect` is its width over its height before the tilt.
    """
    wide, high = np.cos(ANGLES - tilt), np.sin(ANGLES - tilt)
    return normalised(1 / np.sqrt(wide**2 / aspect + high**2 * aspect))


def normalised(radius: FloatArray) -> FloatArray:
    """Scale an outline so that it encloses the area of the unit circle."""
    return np.asarray(radius / np.sqrt(np.mean(radius**2)), dtype=np.float32)


def lobulation(rng: np.random.Generator, strength: float, lowest: int, highest: int) -> FloatArray:
    """Draw waves, `lowest` to `highest` per turn, faster ones weaker; mean 0, standard deviation `strength`."""
    orders = np.arange(lowest, highest + 1)
    weights = rng.standard_normal(len(orders)) / np.sqrt(orders)
    waves = np.cos(orders[:, None] * ANGLES + rng.uniform(0, 2 * np.pi, (len(orders), 1)))
    total = weights @ waves
    return np.asarray(strength * total / max(float(total.std()), 1e-9), dtype=np.float32)


def corners(rng: np.random.Generator, count: int, strength: float) -> FloatArray:
    """Draw straight runs between `count` corners of random radius; mean 0, standard deviation `strength`."""
    at = np.sort(rng.uniform(-np.pi, np.pi, count))
    values = np.interp(ANGLES, at, rng.standard_normal(count), period=2 * np.pi)
    values -= values.mean()
    return np.asarray(strength * values / max(float(values.std()), 1e-9), dtype=np.float32)


def spicules(rng: np.random.Generator, count: int, length: float) -> FloatArray:
    """Draw spikes of random place, width and length (up to `length` of the radius) that grow outwards."""
    at, width = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(0.05, 0.14, (count, 1))
    apart = np.abs((ANGLES - at + np.pi) % (2 * np.pi) - np.pi)
    heights = rng.uniform(0.3, 1.0, (count, 1)) * length
    return np.asarray(np.max(heights * np.maximum(1 - apart / (2 * width), 0), axis=0), dtype=np.float32)


REACH = 5.0  # mm around an inclusion within which it changes the tissue
CALCIFICATION = 0.12  # mm, radius


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One inclusion."""

    outline: FloatArray  # radius in mm at each of `ANGLES`
    level: float  # backscatter, dB relative to glandular tissue
    heterogeneity: float  # standard deviation of the level within, dB
    attenuation: float  # one way, dB / cm / MHz. Below its surroundings it brightens what lies behind, above it shadows
    margin: float  # width of the transition to the surroundings, mm
    x: float = 0.0  # lateral position of its centre, mm from the middle
    z: float = 0.0  # depth of its centre, mm
    capsule: float = 0.0  # amplitude of the mirror-like echo where the margin faces the probe
    halo: float = 0.0  # rise of the level around the margin, dB
    streaks: float = 0.0  # strength of the lines that radiate from the margin, dB
    edge_shadow: float = 0.0  # attenuation at the lateral edges, where the beam is refracted away
    calcifications: int = 0  # number of point echoes within

    @property
    def half_width(self) -> float:
        """Return half its extent from left to right, mm."""
        return float(np.ptp(self.outline * np.cos(ANGLES))) / 2

    @property
    def half_height(self) -> float:
        """Return half its extent from top to bottom, mm."""
        return float(np.ptp(self.outline * np.sin(ANGLES))) / 2


@dataclass(frozen=True, slots=True)
class _Frame:
    """The pixels of a window as seen from an inclusion: each (h, w), or broadcast to it; in mm."""

    right: FloatArray
    down: FloatArray
    outside: FloatArray  # along the radius, beyond the outline; negative within
    angle: NDArray[np.int64]  # index into ANGLES


def insert(tissue: Tissue, grid: Grid, inclusion: Inclusion, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put an inclusion into the tissue, in place, and return its pixels, (H, W); `rng` draws its texture."""
    mask = np.zeros((grid.size, grid.size), dtype=np.bool_)
    window = _window(inclusion, grid)
    if mask[window].size:
        frame = _frame(inclusion, grid, window)
        part = tissue.within(window)
        mask[window] = frame.outside < 0
        _disturb(part, inclusion, frame, rng)
        _fill(part, inclusion, frame, grid, rng)
        facing = np.abs(frame.down) / (np.hypot(frame.down, frame.right) + 1e-3)
        part.specular[...] += inclusion.capsule * facing**3 * ridge(frame.outside, 0.2)
        beside = ridge(np.abs(frame.right) - inclusion.half_width, 0.5)
        part.attenuation[...] += inclusion.edge_shadow * beside * ridge(frame.down, 0.35 * inclusion.half_height)
    return mask


def _window(inclusion: Inclusion, grid: Grid) -> tuple[slice, slice]:
    reach = float(inclusion.outline.max()) + REACH

    def around(centre: float) -> slice:
        first, last = (round((centre + r) / grid.spacing) for r in (-reach, reach))
        return slice(max(first, 0), max(last, 0))

    return around(inclusion.z), around(inclusion.x + grid.size * grid.spacing / 2)


def _frame(inclusion: Inclusion, grid: Grid, window: tuple[slice, slice]) -> _Frame:
    right, down = grid.x[:, window[1]] - inclusion.x, grid.z[window[0]] - inclusion.z
    count = len(ANGLES)
    angle = ((np.arctan2(down, right) / (2 * np.pi) + 0.5) * count).astype(np.int64) % count
    return _Frame(right, down, np.hypot(down, right) - inclusion.outline[angle], angle)


def _disturb(tissue: Tissue, inclusion: Inclusion, frame: _Frame, rng: np.random.Generator) -> None:
    """Add an uneven echogenic halo, and rays that pull the surroundings towards the lesion."""
    if not inclusion.halo and not inclusion.streaks:
        return
    uneven = np.maximum(1 + lobulation(rng, 0.5, 2, 7), 0)
    rays = lobulation(rng, 1.0, 18, 60)
    fall = np.exp(-np.maximum(frame.outside, 0) / 1.5)
    change = inclusion.halo * uneven[frame.angle] * fall + inclusion.streaks * rays[frame.angle] * np.sqrt(fall)
    tissue.level[...] += change * ramp(REACH - 1 - frame.outside, 2.0)


def _fill(tissue: Tissue, inclusion: Inclusion, frame: _Frame, grid: Grid, rng: np.random.Generator) -> None:
    texture = rng.standard_normal(frame.outside.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(texture, (0.5 / grid.spacing, 0.8 / grid.spacing), truncate=2.5)
    texture *= inclusion.heterogeneity / max(float(texture.std()), 1e-9)
    tissue.fill(ramp(-frame.outside, inclusion.margin), inclusion.level + texture, inclusion.attenuation)
    for _ in range(inclusion.calcifications):
        place = int(rng.integers(len(ANGLES)))
        radius = inclusion.outline[place] * 0.8 * rng.random() ** 0.5
        right = frame.right - radius * np.cos(ANGLES[place])
        down = frame.down - radius * np.sin(ANGLES[place])
        tissue.specular[...] += rng.uniform(1, 4) * ridge(np.hypot(down, right), CALCIFICATION)
