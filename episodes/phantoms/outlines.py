"""Outlines of lesions and lobules as radii over the angle."""

import numpy as np

from episodes.phantoms.textures import FloatArray

ANGLES = np.linspace(-np.pi, np.pi, 720, endpoint=False, dtype=np.float32)


def ellipse(aspect: float, tilt: float) -> FloatArray:
    """An ellipse of unit mean square radius.

    Args:
        aspect: width over height before the tilt.
        tilt: in radians.

    Returns:
        Radius at each of `ANGLES`.
    """
    wide, high = np.cos(ANGLES - tilt), np.sin(ANGLES - tilt)
    return normalised(1 / np.sqrt(wide**2 / aspect + high**2 * aspect))


def normalised(radius: FloatArray) -> FloatArray:
    """Scale an outline so that it encloses the area of the unit circle."""
    return np.asarray(radius / np.sqrt(np.mean(radius**2)), dtype=np.float32)


def lobulation(rng: np.random.Generator, strength: float, lowest: int, highest: int) -> FloatArray:
    """Waves, `lowest` to `highest` per turn, faster ones weaker; mean 0, standard deviation `strength`."""
    orders = np.arange(lowest, highest + 1)
    weights = rng.standard_normal(len(orders)) / np.sqrt(orders)
    waves = np.cos(orders[:, None] * ANGLES + rng.uniform(0, 2 * np.pi, (len(orders), 1)))
    total = weights @ waves
    return np.asarray(strength * total / max(float(total.std()), 1e-9), dtype=np.float32)


def corners(rng: np.random.Generator, count: int, strength: float) -> FloatArray:
    """Straight runs between `count` corners of random radius; mean 0, standard deviation `strength`."""
    at = np.sort(rng.uniform(-np.pi, np.pi, count))
    values = np.interp(ANGLES, at, rng.standard_normal(count), period=2 * np.pi)
    values -= values.mean()
    return np.asarray(strength * values / max(float(values.std()), 1e-9), dtype=np.float32)


def spicules(rng: np.random.Generator, count: int, length: float) -> FloatArray:
    """Spikes of random place, width and length (up to `length` of the radius) that grow outwards."""
    at, width = rng.uniform(-np.pi, np.pi, (count, 1)), rng.uniform(0.05, 0.14, (count, 1))
    apart = np.abs((ANGLES - at + np.pi) % (2 * np.pi) - np.pi)
    heights = rng.uniform(0.3, 1.0, (count, 1)) * length
    return np.asarray(np.max(heights * np.maximum(1 - apart / (2 * width), 0), axis=0), dtype=np.float32)
