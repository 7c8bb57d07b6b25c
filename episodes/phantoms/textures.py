"""Random curves, fields and sheets: what tissue is made of, on a grid in millimetres."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square image: x runs to the right from the middle, z downwards from the skin.

    Attributes:
        size: pixels along each side.
        spacing: mm per pixel.
    """

    size: int
    spacing: float

    @cached_property
    def z(self) -> FloatArray:
        """Depths in mm, (H, 1)."""
        return ((np.arange(self.size, dtype=np.float32) + 0.5) * np.float32(self.spacing))[:, None]

    @cached_property
    def x(self) -> FloatArray:
        """Lateral positions in mm, (1, W)."""
        return self.z.T - np.float32(self.size * self.spacing / 2)


def curve(rng: np.random.Generator, at: FloatArray, wavelength: float, amplitude: float) -> FloatArray:
    """A smooth random curve: five sinusoids around a wavelength.

    Args:
        rng: its random numbers.
        at: positions in mm, of any shape.
        wavelength: the typical one, in mm.
        amplitude: the standard deviation of the result.

    Returns:
        The curve at these positions, same shape.
    """
    frequency = rng.uniform(0.4, 1.6, 5) * (2 * np.pi / wavelength)
    phase = rng.uniform(0, 2 * np.pi, 5)
    weight = amplitude * np.sqrt(2 / 5)
    waves = (
        np.sin(f * at + p)
        for f, p in zip(frequency.astype(np.float32), phase.astype(np.float32), strict=True)
    )
    return np.asarray(sum(waves) * np.float32(weight), dtype=np.float32)


def field(rng: np.random.Generator, grid: Grid, axial: float, lateral: float) -> FloatArray:
    """A Gaussian random field of unit variance.

    Args:
        rng: its random numbers.
        grid: where it is wanted.
        axial: correlation length downwards, mm.
        lateral: correlation length sideways, mm.

    Returns:
        The field, (H, W).
    """
    n = grid.size
    spectrum = fft.rfft2(rng.standard_normal((n, n), dtype=np.float32))
    spectrum *= lowpass(fft.fftfreq(n, grid.spacing), axial)[:, None]
    spectrum *= lowpass(fft.rfftfreq(n, grid.spacing), lateral)
    values: FloatArray = fft.irfft2(spectrum, s=(n, n), overwrite_x=True)
    return values * np.float32(1 / max(float(values.std()), 1e-12))


def lowpass(frequency: NDArray[np.float64], sigma: float) -> FloatArray:
    """The spectrum of a Gaussian with standard deviation `sigma` (mm) at these frequencies (cycles per mm)."""
    return np.exp(-2 * (np.pi * sigma * frequency) ** 2).astype(np.float32)


def sheets(values: FloatArray, grid: Grid, thickness: float, step: float, power: float) -> FloatArray:
    """Echoes of thin sheets of connective tissue that lie along the level lines of a field.

    A sheet reflects like a mirror: what returns to the probe falls as a power of the cosine of its slope.

    Args:
        values: the field, (H, W).
        grid: its grid.
        thickness: of a sheet, mm.
        step: distance between levels in units of the field; the larger, the fewer sheets.
        power: of the cosine.

    Returns:
        Reflectivity in [0, 1], (H, W).
    """
    down, right = np.gradient(values, np.float32(grid.spacing))
    steepness = np.sqrt(down * down + right * right) + np.float32(1e-6)
    off_level = values - step * np.round(values / np.float32(step))
    distance = off_level / (steepness * np.float32(thickness))
    cosine = np.abs(down) / steepness
    return np.asarray(np.exp(-distance * distance) * cosine**power, dtype=np.float32)


def ramp(distance: FloatArray, width: float) -> FloatArray:
    """0 below -width / 2, 1 above width / 2, linear between.

    >>> ramp(np.array([-2.0, 0.0, 0.25, 3.0], dtype=np.float32), width=1.0).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    return np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)


def sheared(values: FloatArray, shift: FloatArray, grid: Grid) -> FloatArray:
    """Move each column down by `shift` mm, (1, W), so that a texture follows a curved layer; wraps around."""
    rows = np.arange(grid.size)[:, None] - np.round(shift / grid.spacing).astype(np.int64)
    return np.take_along_axis(values, rows % grid.size, axis=0)
