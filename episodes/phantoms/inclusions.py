"""Things embedded in the layers of the breast: lesions, fat lobules, ducts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from episodes.phantoms import outlines
from episodes.phantoms.imaging import Tissue
from episodes.phantoms.textures import FloatArray, Grid, ramp

REACH = 5.0  # mm around an inclusion within which it changes the tissue


@dataclass(frozen=True, slots=True)
class Inclusion:
    """One inclusion.

    Attributes:
        outline: radius in mm at each of `outlines.ANGLES`.
        x: lateral position of its centre, mm from the middle.
        z: depth of its centre, mm.
        level: backscatter, dB relative to glandular tissue.
        heterogeneity: standard deviation of the level within, dB.
        attenuation: one way, dB / cm / MHz. Below its surroundings it brightens what lies behind, above it shadows.
        margin: width of the transition to the surroundings, mm.
        capsule: amplitude of the mirror-like echo where the margin faces the probe.
        halo: rise of the level around the margin, dB.
        streaks: strength of the lines that radiate from the margin, dB.
        edge_shadow: attenuation at the lateral edges, where the beam is refracted away.
        calcifications: number of point echoes within.
    """

    outline: FloatArray
    x: float
    z: float
    level: float
    heterogeneity: float
    attenuation: float
    margin: float
    capsule: float = 0.0
    halo: float = 0.0
    streaks: float = 0.0
    edge_shadow: float = 0.0
    calcifications: int = 0

    @property
    def half_width(self) -> float:
        """Its extent to either side, mm."""
        return float(np.ptp(self.outline * np.cos(outlines.ANGLES))) / 2

    @property
    def half_height(self) -> float:
        """Its extent up and down, mm."""
        return float(np.ptp(self.outline * np.sin(outlines.ANGLES))) / 2


def insert(tissue: Tissue, grid: Grid, inclusion: Inclusion, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put an inclusion into the tissue, in place.

    Args:
        tissue: maps that change around the inclusion.
        grid: their grid.
        inclusion: what to insert.
        rng: draws its texture.

    Returns:
        Its pixels, (H, W).
    """
    mask = np.zeros((grid.size, grid.size), dtype=np.bool_)
    window = _window(inclusion, grid)
    right = grid.x[:, window[1]] - np.float32(inclusion.x)
    down = grid.z[window[0]] - np.float32(inclusion.z)
    if not right.size or not down.size:
        return mask
    turn = np.arctan2(down, right) * np.float32(len(outlines.ANGLES) / (2 * np.pi))
    angle = (turn.astype(np.int64) + len(outlines.ANGLES) // 2) % len(outlines.ANGLES)
    outside = np.hypot(down, right) - inclusion.outline[angle]
    mask[window] = outside < 0
    _surround(tissue, window, inclusion, outside, angle, rng)
    _fill(tissue, window, inclusion, outside, grid, rng)
    _edges(tissue, window, inclusion, outside, down, right)
    return mask


def _window(inclusion: Inclusion, grid: Grid) -> tuple[slice, slice]:
    reach = float(inclusion.outline.max()) + REACH
    middle = grid.size * grid.spacing / 2

    def around(centre: float) -> slice:
        first, last = (int(np.clip((centre + r) / grid.spacing, 0, grid.size)) for r in (-reach, reach))
        return slice(first, last)

    return around(inclusion.z), around(inclusion.x + middle)


def _surround(
    tissue: Tissue, window: tuple[slice, slice], inclusion: Inclusion, outside: FloatArray,
    angle: NDArray[np.int64], rng: np.random.Generator,
) -> None:  # fmt: skip
    """An echogenic halo, and streaks that pull the tissue around towards the inclusion (architectural distortion)."""
    if not inclusion.halo and not inclusion.streaks:
        return
    uneven = outlines.lobulation(rng, 0.5, 2, 7)
    rays = outlines.lobulation(rng, 1.0, 18, 60)
    fall = np.exp(-np.maximum(outside, 0) / np.float32(1.2))
    change = np.float32(inclusion.halo) * np.maximum(1 + uneven, 0)[angle] * fall
    change += np.float32(inclusion.streaks) * rays[angle] * np.sqrt(fall)
    tissue.level[window] += change * ramp(np.float32(REACH - 1) - outside, 2.0)


def _fill(
    tissue: Tissue, window: tuple[slice, slice], inclusion: Inclusion, outside: FloatArray, grid: Grid,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    inside = ramp(-outside, inclusion.margin)
    texture = rng.standard_normal(outside.shape, dtype=np.float32)
    texture = ndimage.gaussian_filter(texture, (0.5 / grid.spacing, 0.8 / grid.spacing), truncate=2.5)
    texture *= np.float32(inclusion.heterogeneity / max(float(texture.std()), 1e-9))
    tissue.level[window] += inside * (inclusion.level + texture - tissue.level[window])
    tissue.attenuation[window] += inside * (inclusion.attenuation - tissue.attenuation[window])
    tissue.specular[window] *= 1 - inside
    rows, columns = np.nonzero(outside < -inclusion.margin)
    for chosen in rng.integers(0, max(len(rows), 1), inclusion.calcifications) if len(rows) else ():
        tissue.specular[window][rows[chosen], columns[chosen]] += np.float32(rng.uniform(4, 10))


def _edges(
    tissue: Tissue, window: tuple[slice, slice], inclusion: Inclusion, outside: FloatArray, down: FloatArray,
    right: FloatArray,
) -> None:  # fmt: skip
    if inclusion.capsule:
        radius = np.hypot(down, right) + np.float32(1e-3)
        facing = (np.abs(down) / radius) ** 3
        tissue.specular[window] += (
            np.float32(inclusion.capsule) * facing * np.exp(-((outside / np.float32(0.2)) ** 2))
        )
    if inclusion.edge_shadow:
        beside = np.exp(-(((np.abs(right) - np.float32(inclusion.half_width)) / np.float32(0.5)) ** 2))
        level = np.exp(-((down / np.float32(0.35 * inclusion.half_height)) ** 2))
        tissue.attenuation[window] += np.float32(inclusion.edge_shadow) * beside * level
