"""From tissue to a B-mode image: scatterers, point-spread function, envelope, log compression.

The linear model of Bamber and Dickinson (Phys. Med. Biol. 25, 1980): echoes are the tissue's scatterers convolved with the
scanner's point-spread function. At baseband, where each pixel holds many scatterers at sub-wavelength positions, they are
complex Gaussian numbers, and the envelope of homogeneous tissue is Rayleigh-distributed: fully developed speckle (Wagner
et al., IEEE Trans. Sonics Ultrason. 30, 1983).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from episodes.phantoms.scanners import Scanner
from episodes.phantoms.textures import FloatArray, Grid, lowpass

ZONES = 4  # depths at which the point-spread function is computed; between them it is blended
FULL_WIDTH = 2.355  # full width at half maximum of a Gaussian, in standard deviations
TYPICAL_ATTENUATION = 0.65  # dB / cm / MHz, the presetting of time-gain compensation


@dataclass(slots=True)
class Tissue:
    """What the pulse meets; each an (H, W) array that the anatomy fills.

    Attributes:
        level: backscatter of the unresolved scatterers, dB relative to glandular tissue.
        specular: amplitude of mirror-like echoes, in the same units (1 is as strong as glandular backscatter).
        attenuation: one way, dB / cm / MHz.
    """

    level: FloatArray
    specular: FloatArray
    attenuation: FloatArray


def amplitude(decibels: FloatArray) -> FloatArray:
    """Decibels to amplitude ratio.

    >>> amplitude(np.array([0.0, 20.0], dtype=np.float32)).round(3).tolist()
    [1.0, 10.0]
    """
    return np.exp(decibels * np.float32(np.log(10) / 20))


def resolution(scanner: Scanner, depth: float) -> tuple[float, float]:
    """Standard deviations of the point-spread function, mm.

    Args:
        scanner: its physics.
        depth: in mm.

    Returns:
        Axial (grows with depth, which absorbs the high frequencies first) and lateral (smallest at the focus).
    """
    axial = scanner.cycles * scanner.wavelength / 2 / FULL_WIDTH * (1 + 0.3 * depth / scanner.depth)
    focal_length = 4 * scanner.f_number**2 * scanner.wavelength
    defocus = (depth - scanner.focus * scanner.depth) / focal_length
    lateral = scanner.f_number * scanner.wavelength / FULL_WIDTH * np.sqrt(1 + defocus**2)
    return axial, float(lateral)


def envelope(
    sources: FloatArray, specular: FloatArray, scanner: Scanner, rng: np.random.Generator
) -> FloatArray:
    """Amplitude of the echoes before compression.

    Args:
        sources: amplitude of the unresolved scatterers after attenuation, (H, W).
        specular: amplitude of the coherent reflectors after attenuation, (H, W).
        scanner: its point-spread function and compounding.
        rng: draws the scatterers.

    Returns:
        Its root mean square is that of `sources` where these are constant, (H, W).
    """
    grid = Grid(len(sources), scanner.depth / len(sources))
    power = np.zeros_like(sources)
    for _ in range(scanner.looks):
        scatterers = rng.standard_normal((*sources.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        scatterers *= sources * np.float32(np.sqrt(0.5))
        echoes = _focused(scatterers + specular, scanner, grid)
        power += echoes.real**2 + echoes.imag**2
    return np.sqrt(power / np.float32(scanner.looks))


def _focused(reflectors: NDArray[np.complex64], scanner: Scanner, grid: Grid) -> NDArray[np.complex64]:
    """Convolve with the point-spread function of each depth zone and blend linearly between the zones."""
    n = grid.size
    frequency = fft.fftfreq(n, grid.spacing)
    spectrum = fft.fft2(reflectors, overwrite_x=True)
    depths = np.linspace(0, scanner.depth, ZONES)
    echoes = np.zeros_like(reflectors)
    for depth in depths:
        axial, lateral = resolution(scanner, float(depth))
        down, across = lowpass(frequency, axial), lowpass(frequency, lateral)
        scale = n / np.sqrt(np.sum(down**2) * np.sum(across**2))  # unit power for white scatterers
        zone = spectrum * (down * np.float32(scale))[:, None]
        zone *= across
        near = np.clip(1 - np.abs(grid.z - depth) / (depths[1] - depths[0]), 0, 1).astype(np.float32)
        rows = np.flatnonzero(near)
        # Transform across every row, but keep only the rows of this zone for the second axis.
        columns = fft.ifft(zone, axis=0, overwrite_x=True)[rows]
        echoes[rows] += near[rows] * fft.ifft(columns, axis=1, overwrite_x=True)
    return echoes


def travel_loss(attenuation: FloatArray, scanner: Scanner) -> FloatArray:
    """Round-trip loss down to each pixel after time-gain compensation, dB, (H, W); negative is enhancement."""
    spacing = scanner.depth / len(attenuation)
    loss = np.cumsum(attenuation, axis=0, dtype=np.float32) * np.float32(0.2 * scanner.frequency * spacing)
    beam = resolution(scanner, scanner.focus * scanner.depth)[1] / spacing
    return np.asarray(ndimage.gaussian_filter1d(loss, beam, axis=1, truncate=3), dtype=np.float32)


def b_mode(tissue: Tissue, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image the tissue.

    Args:
        tissue: maps of what is there, (H, W) each.
        scanner: how it is seen.
        rng: draws scatterers, noise and the operator's gain.

    Returns:
        Grey levels, (H, W).
    """
    grid = Grid(len(tissue.level), scanner.depth / len(tissue.level))
    compensation = 0.2 * scanner.frequency * TYPICAL_ATTENUATION * grid.z
    loss = travel_loss(tissue.attenuation, scanner) - np.float32(scanner.compensation) * compensation
    passed = amplitude(-loss)
    echoes = envelope(amplitude(tissue.level) * passed, tissue.specular * passed, scanner, rng)
    noise = rng.standard_normal((2, *echoes.shape), dtype=np.float32)
    echoes += amplitude(
        np.float32(scanner.compensation) * compensation - np.float32(scanner.noise)
    ) * np.hypot(*noise)
    return compress(echoes, scanner, gain=scanner.gain + rng.uniform(-3, 3))


def compress(echoes: FloatArray, scanner: Scanner, gain: float) -> NDArray[np.uint8]:
    """Log-compress the envelope to grey levels and post-process as the scanner does.

    Args:
        echoes: the envelope, 1 for glandular tissue, (H, W).
        scanner: dynamic range and filters.
        gain: brightness of glandular tissue, dB below white.

    Returns:
        Grey levels, (H, W).
    """
    grey = (20 * np.log10(echoes + np.float32(1e-6)) + np.float32(scanner.dynamic_range - gain)) / np.float32(
        scanner.dynamic_range
    )
    spacing = scanner.depth / len(echoes)
    if scanner.smoothing:
        grey = ndimage.gaussian_filter(grey, scanner.smoothing / spacing, truncate=3)
    if scanner.sharpening:
        grey += np.float32(scanner.sharpening) * (grey - ndimage.gaussian_filter(grey, 1.5, truncate=2))
    grey = np.clip(grey, 0, 1) ** np.float32(scanner.gamma)
    return np.round(grey * 255).astype(np.uint8)
