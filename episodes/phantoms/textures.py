"""Textures and tissues of phantoms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.floating[Any]]  # float32 in fact: numpy keeps it when Python numbers join in


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixel centres of a square image, spaced in mm: x runs to the right from the middle, z downwards from the skin."""

    size: int
    spacing: float

    @property
    def z(self) -> FloatArray:
        """Return depths in mm, (H, 1)."""
        return ((np.arange(self.size, dtype=np.float32) + 0.5) * self.spacing)[:, None]

    @property
    def x(self) -> FloatArray:
        """Return lateral positions in mm, (1, W)."""
        return self.z.T - self.size * self.spacing / 2


def curve(rng: np.random.Generator, at: FloatArray, wavelength: float, amplitude: float) -> FloatArray:
    """Draw a smooth curve at positions in mm, of any shape: five sinusoids around a wavelength in mm.

    `amplitude` is the standard deviation of the result.
    """
    total: FloatArray = np.zeros_like(at)
    for _ in range(5):
        frequency, phase = 2 * np.pi / wavelength * rng.uniform(0.4, 1.6), rng.uniform(0, 2 * np.pi)
        total += np.sin(frequency * at + phase)
    total *= amplitude * 0.4**0.5
    return total


def field(rng: np.random.Generator, grid: Grid, axial: float, lateral: float) -> FloatArray:
    """Draw a Gaussian random field of unit variance, (H, W), with correlation lengths in mm down and across."""
    shape = (grid.size, grid.size)
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32), overwrite_x=True)
    spectrum *= lowpass(fft.fftfreq(grid.size, grid.spacing), axial)[:, None]
    spectrum *= lowpass(fft.rfftfreq(grid.size, grid.spacing), lateral)
    values: FloatArray = fft.irfft2(spectrum, s=shape, overwrite_x=True)
    return values / max(float(values.std()), 1e-12)


def lowpass(frequency: NDArray[np.float64], sigma: float) -> FloatArray:
    """Return the spectrum of a Gaussian of standard deviation `sigma` (mm) at frequencies in cycles per mm."""
    return np.exp(-2 * (np.pi * sigma * frequency) ** 2).astype(np.float32)


def sheets(values: FloatArray, grid: Grid, thickness: float, step: float, power: float) -> FloatArray:
    """Compute the reflectivity in [0, 1] of thin sheets of connective tissue along the level lines of a field, (H, W).

    A sheet reflects like a mirror: what returns to the probe falls as a power of the cosine of its slope. `thickness`
    is in mm, and `step`, from one level to the next, in units of the field; the larger, the fewer sheets.
    """
    down, right = np.gradient(values, grid.spacing)
    steepness = np.sqrt(down * down + right * right) + 1e-6
    off_level = values - step * np.round(values / step)
    cosine = np.abs(down) / steepness
    return ridge(off_level / steepness, thickness) * np.asarray(cosine**power, dtype=np.float32)


def ridge(distance: FloatArray, width: float) -> FloatArray:
    """Return 1 at distance 0, falling as a Gaussian to 1 / e at `width`.

    >>> ridge(np.array([0.0, 0.5], dtype=np.float32), width=0.5).round(3).tolist()
    [1.0, 0.36800000071525574]
    """
    return np.asarray(np.exp(-((distance / width) ** 2)), dtype=np.float32)


def ramp(distance: FloatArray, width: float) -> FloatArray:
    """Return 0 below -width / 2, 1 above width / 2, linear between.

    >>> ramp(np.array([-2.0, 0.0, 0.25, 3.0], dtype=np.float32), width=1.0).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    share: FloatArray = np.clip(distance / width + 0.5, 0, 1)
    return share


def sheared(values: FloatArray, shift: FloatArray, grid: Grid) -> FloatArray:
    """Move each column down by `shift` mm, (1, W), so that a texture follows a curved layer; wraps around."""
    rows = np.arange(grid.size)[:, None] - np.round(shift / grid.spacing).astype(np.int64)
    moved: FloatArray = values[rows % grid.size, np.arange(grid.size)]
    return moved


@dataclass(frozen=True, slots=True)
class Tissue:
    """Acoustic properties of a section: (H, W) arrays that anatomy and lesions change in place."""

    level: FloatArray  # backscatter of the scatterers that the pulse cannot resolve, dB relative to glandular tissue
    specular: FloatArray  # amplitude of mirror-like echoes; 1 is as strong as the backscatter of glandular tissue
    attenuation: FloatArray  # one way, dB / cm / MHz

    @classmethod
    def homogeneous(cls, size: int, level: float, attenuation: float) -> "Tissue":
        """Fill a square section with one kind of tissue that mirrors nothing."""
        return cls(*(np.full((size, size), value, dtype=np.float32) for value in (level, 0, attenuation)))

    def fill(self, where: FloatArray, level: FloatArray | float, attenuation: FloatArray | float) -> None:
        """Replace the tissue where `where` is 1, and blend it where `where` is between 0 and 1."""
        self.level[...] += where * (level - self.level)
        self.specular[...] *= 1 - where
        self.attenuation[...] += where * (attenuation - self.attenuation)

    def within(self, window: tuple[slice, slice]) -> "Tissue":
        """Return a part of the section that shares its memory: to change it is to change the whole."""
        return Tissue(self.level[window], self.specular[window], self.attenuation[window])
