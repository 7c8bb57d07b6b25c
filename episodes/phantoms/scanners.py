"""The physics that tells one scanner's images from another's."""

from collections.abc import Mapping
from dataclasses import dataclass

from episodes.errors import SamplingError

SPEED_OF_SOUND = 1.54  # mm per microsecond, the average of soft tissue that every scanner assumes


@dataclass(frozen=True, slots=True)
class Scanner:
    """A linear-array scanner and its display settings.

    Attributes:
        frequency: centre frequency of the pulse, MHz.
        depth: depth, and width, that the image shows, mm.
        cycles: length of the pulse in periods; half of it is the axial resolution.
        f_number: focal depth over aperture; times the wavelength it is the lateral resolution at the focus.
        focus: depth of the transmit focus as a share of `depth`.
        looks: independent speckle patterns averaged by spatial compounding; 1 means none.
        noise: electronic noise before time-gain compensation, dB below the echo of glandular tissue.
        compensation: share of the expected attenuation that time-gain compensation undoes.
        gain: brightness of glandular tissue, dB below white.
        dynamic_range: dB from black to white.
        gamma: exponent of the grey map after log compression; above 1 it darkens the mid-greys.
        smoothing: standard deviation of the speckle-reduction filter, mm; 0 for none.
        sharpening: weight of edge enhancement after smoothing; 0 for none.
    """

    frequency: float
    depth: float
    cycles: float
    f_number: float
    focus: float
    looks: int
    noise: float
    compensation: float
    gain: float
    dynamic_range: float
    gamma: float
    smoothing: float
    sharpening: float

    @property
    def wavelength(self) -> float:
        """Length of one period in tissue, mm."""
        return SPEED_OF_SOUND / self.frequency


# A general breast probe on a cart: one look, bright, of moderate depth.
_LINEAR = Scanner(
    frequency=9.0,
    depth=40.0,
    cycles=3.5,
    f_number=3.2,
    focus=0.45,
    looks=1,
    noise=62.0,
    compensation=0.78,
    gain=14.0,
    dynamic_range=56.0,
    gamma=1.0,
    smoothing=0.08,
    sharpening=0.0,
)
# A high-frequency probe with spatial compounding: shallow, fine, smooth and dark.
_HIGHFREQ = Scanner(
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
    sharpening=0.0,
)
# A battery-driven probe: coarse speckle, deep, noisy, few greys, edges enhanced.
_PORTABLE = Scanner(
    frequency=5.5,
    depth=52.0,
    cycles=3.0,
    f_number=3.6,
    focus=0.6,
    looks=1,
    noise=42.0,
    compensation=0.65,
    gain=13.0,
    dynamic_range=42.0,
    gamma=1.1,
    smoothing=0.0,
    sharpening=0.4,
)

SCANNERS: Mapping[str, Scanner] = {"linear": _LINEAR, "highfreq": _HIGHFREQ, "portable": _PORTABLE}


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
