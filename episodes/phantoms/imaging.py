"""B-mode images of tissue, as several scanners show it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from episodes.errors import SamplingError
from episodes.phantoms.textures import FloatArray, Grid, Tissue, lowpass

SPEED_OF_SOUND = 1.54  # mm per microsecond, the average of soft tissue that every scanner assumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """A linear-array scanner and its display settings."""

    frequency: float  # centre frequency of the pulse, MHz
    depth: float  # depth, and width, that the image shows, mm
    cycles: float  # length of the pulse in periods; half of it is the axial resolution
    f_number: float  # focal depth over aperture; times the wavelength it is the lateral resolution at the focus
    focus: float  # depth of the transmit focus as a share of `depth`
    looks: int = 1  # independent speckle patterns averaged by spatial compounding; 1 means none
    noise: float  # electronic noise before time-gain compensation, dB below the echo of glandular tissue
    compensation: float  # share of the expected attenuation that time-gain compensation undoes
    gain: float  # brightness of glandular tissue, dB below white
    dynamic_range: float  # dB from black to white
    gamma: float = 1.0  # exponent of the grey map after log compression; above 1 it darkens the mid-greys
    smoothing: float = 0.0  # standard deviation of the speckle-reduction filter, mm; 0 for none
    sharpening: float = 0.0  # weight of edge enhancement after smoothing; 0 for none

    @property
    def wavelength(self) -> float:
        """Return the length of one period in tissue, mm."""
        return SPEED_OF_SOUND / self.frequency


SCANNERS: Mapping[str, Scanner] = {
    # A general breast probe on a cart: one look, bright, of moderate depth.
    "linear": Scanner(
        frequency=9.0,
        depth=40.0,
        cycles=3.5,
        f_number=3.2,
        focus=0.45,
        noise=62.0,
        compensation=0.78,
        gain=14.0,
        dynamic_range=56.0,
        smoothing=0.08,
    ),
    # A high-frequency probe with spatial compounding: shallow, fine, smooth and dark.
    "highfreq": Scanner(
        frequency=14.0,
        depth=28.0,
        cycles=3.5,
        f_number=3.4,
        focus=0.4,
        looks=3,
        noise=66.0,
        compensation=0.91,
        gain=24.0,
        dynamic_range=64.0,
        gamma=1.6,
        smoothing=0.07,
    ),
    # A battery-driven probe: coarse speckle, deep, noisy, few greys, edges enhanced.
    "portable": Scanner(
        frequency=5.5,
        depth=52.0,
        cycles=3.0,
        f_number=3.6,
        focus=0.6,
        noise=42.0,
        compensation=0.65,
        gain=13.0,
        dynamic_range=42.0,
        gamma=1.1,
        sharpening=0.4,
    ),
}


def scanner_named(name: str) -> Scanner:
    """Look a scanner up.

    Raises:
        SamplingError: there is none of that name; the message lists those there are.

    >>> scanner_named("portable").frequency
    5.5
    """
    if name not in SCANNERS:
        raise SamplingError(f"unknown scanner {name!r}: use one of {', '.join(SCANNERS)}")
    return SCANNERS[name]


ZONES = 4  # depths at which the point-spread function is computed; between them it is blended
FINEST = 0.7  # pixels, the narrowest point-spread function that does not ring
FULL_WIDTH = 2.355  # full width at half maximum of a Gaussian, in standard deviations
TYPICAL_ATTENUATION = 0.65  # dB / cm / MHz, what time-gain compensation expects
MIRROR = 4.3  # echo of a plane mirror over that of glandular tissue, at a specular amplitude of 1
LINE = 0.8  # pixels, the blur of noise from one scan line to the next
EDGE = 0.3  # mm, the scale on which edges are enhanced


def amplitude(decibels: FloatArray) -> FloatArray:
    """Turn decibels into an amplitude ratio.

    >>> amplitude(np.array([0.0, 20.0], dtype=np.float32)).round(3).tolist()
    [1.0, 10.0]
    """
    return np.asarray(np.exp(decibels * (np.log(10) / 20).item()), dtype=np.float32)


def resolution(scanner: Scanner, depth: float) -> tuple[float, float]:
    """Return standard deviations of the point-spread function in mm, axial and lateral, at a depth in mm.

    The axial one grows with depth, as tissue absorbs the high frequencies first; the lateral one is smallest at the
    focus.
    """
    axial = scanner.cycles * scanner.wavelength / 2 / FULL_WIDTH * (1 + 0.3 * depth / scanner.depth)
    focal_length = 4 * scanner.f_number**2 * scanner.wavelength
    defocus = (depth - scanner.focus * scanner.depth) / focal_length
    lateral = scanner.f_number * scanner.wavelength / FULL_WIDTH * (1 + defocus**2) ** 0.5
    return axial, lateral


def b_mode(tissue: Tissue, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image a section of tissue: grey levels, (H, W); `rng` draws scatterers, noise and the operator's gain."""
    grid = Grid(len(tissue.level), scanner.depth / len(tissue.level))
    compensation = 0.2 * scanner.frequency * TYPICAL_ATTENUATION * scanner.compensation * grid.z
    passed = amplitude(compensation - travel_loss(tissue.attenuation, scanner))
    echoes = envelope(amplitude(tissue.level) * passed, tissue.specular * passed, scanner, rng)
    noise = rng.standard_normal((2, *echoes.shape), dtype=np.float32)
    noise = np.hypot(*ndimage.gaussian_filter1d(noise, LINE, axis=2, truncate=3))
    echoes += noise * amplitude(compensation - scanner.noise)
    return compress(echoes, scanner, gain=scanner.gain + rng.uniform(-3, 3))


def travel_loss(attenuation: FloatArray, scanner: Scanner) -> FloatArray:
    """Return what the pulse loses on its way to each pixel and back in dB, (H, W), averaged over the beam's width.

    `attenuation` is that of one way, dB / cm / MHz, (H, W).
    """
    spacing = scanner.depth / len(attenuation)
    loss = np.cumsum(attenuation, axis=0, dtype=np.float32) * (0.2 * scanner.frequency * spacing)
    beam = resolution(scanner, scanner.focus * scanner.depth)[1] / spacing
    return np.asarray(ndimage.gaussian_filter1d(loss, beam, axis=1, truncate=3), dtype=np.float32)


def envelope(diffuse: FloatArray, specular: FloatArray, scanner: Scanner, rng: np.random.Generator) -> FloatArray:
    """Return the amplitude of the echoes before compression, (H, W); `rng` draws the scatterers.

    `diffuse` and `specular` are the amplitudes of unresolved scatterers and of mirror-like reflectors as they reach the
    probe, (H, W). The envelope's root mean square is about that of `diffuse` where nothing mirrors.
    """
    grid = Grid(len(diffuse), scanner.depth / len(diffuse))
    # A mirror's echoes add up in phase, those of scatterers at random: they grow with the number of pixels.
    down, across = _transfer(scanner, scanner.focus * scanner.depth, grid.size, grid.spacing)
    mirrors = specular * (MIRROR / (down[0] * across[0]))
    power = np.zeros_like(diffuse)
    for _ in range(scanner.looks):
        scatterers = rng.standard_normal((*diffuse.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        scatterers *= diffuse * 0.5**0.5
        echoes = _focused(scatterers + mirrors, scanner, grid)
        power += echoes.real**2 + echoes.imag**2
    return np.sqrt(power / scanner.looks)


def _focused(reflectors: NDArray[np.complex64], scanner: Scanner, grid: Grid) -> NDArray[np.complex64]:
    """Convolve with the point-spread function of each depth zone and blend linearly between the zones."""
    # Room for the widest point-spread function, or what leaves at one side would enter at the other.
    widest = max(*resolution(scanner, 0.0), *resolution(scanner, scanner.depth), grid.spacing)
    n = fft.next_fast_len(grid.size + round(4 * widest / grid.spacing))
    spectrum = fft.fft2(reflectors, s=(n, n))
    echoes = np.zeros_like(reflectors)
    for depth in np.linspace(0, scanner.depth, ZONES).tolist():
        down, across = _transfer(scanner, depth, n, grid.spacing)
        weight = np.clip(1 - np.abs(grid.z - depth) * (ZONES - 1) / scanner.depth, 0, 1)
        rows = np.flatnonzero(weight)  # only these are transformed along the second axis
        columns = fft.ifft(spectrum * down[:, None], axis=0, overwrite_x=True)[rows]
        echoes[rows] += weight[rows] * fft.ifft(columns * across, axis=1, overwrite_x=True)[:, : grid.size]
    return echoes


def _transfer(scanner: Scanner, depth: float, n: int, spacing: float) -> tuple[FloatArray, FloatArray]:
    """Return axial and lateral spectra, (n,) each, of a point-spread function that keeps white noise's power."""
    frequency = fft.fftfreq(n, spacing)
    axial, lateral = (max(sigma, FINEST * spacing) for sigma in resolution(scanner, depth))
    down, across = lowpass(frequency, axial), lowpass(frequency, lateral)
    return down / np.sqrt(np.mean(down**2)), across / np.sqrt(np.mean(across**2))


def compress(echoes: FloatArray, scanner: Scanner, gain: float) -> NDArray[np.uint8]:
    """Log-compress an envelope to grey levels, (H, W), and post-process them as the scanner does.

    The envelope, (H, W), is 1 for glandular tissue, which `gain` shows so many dB below white.
    """
    grey = (20 * np.log10(echoes + 1e-6) - gain) / scanner.dynamic_range + 1
    pixels = len(echoes) / scanner.depth  # per mm
    if scanner.smoothing:
        grey = ndimage.gaussian_filter(grey, scanner.smoothing * pixels, truncate=3)
    if scanner.sharpening:
        grey += scanner.sharpening * (grey - ndimage.gaussian_filter(grey, EDGE * pixels, truncate=2))
    return np.asarray(np.round(255 * np.clip(grey, 0, 1) ** scanner.gamma), dtype=np.uint8)
