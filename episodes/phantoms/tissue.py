"""What the ultrasound pulse meets."""

from dataclasses import dataclass

import numpy as np

from episodes.phantoms.textures import FloatArray


@dataclass(frozen=True, slots=True)
class Tissue:
    """Acoustic properties of a section: (H, W) arrays that anatomy and lesions change in place.

    Attributes:
        level: backscatter of the scatterers that the pulse cannot resolve, dB relative to glandular tissue.
        specular: amplitude of mirror-like echoes; 1 is as strong as the backscatter of glandular tissue.
        attenuation: one way, dB / cm / MHz.
    """

    level: FloatArray
    specular: FloatArray
    attenuation: FloatArray

    @classmethod
    def homogeneous(cls, size: int, level: float, attenuation: float) -> "Tissue":
        """A square section of one kind of tissue."""
        shape = (size, size)
        return cls(
            level=np.full(shape, level, dtype=np.float32),
            specular=np.zeros(shape, dtype=np.float32),
            attenuation=np.full(shape, attenuation, dtype=np.float32),
        )

    def fill(self, where: FloatArray, level: FloatArray | float, attenuation: FloatArray | float) -> None:
        """Replace the tissue where `where` is 1, and blend it where `where` is between 0 and 1."""
        self.level[...] += where * (level - self.level)
        self.specular[...] *= 1 - where
        self.attenuation[...] += where * (attenuation - self.attenuation)

    def within(self, window: tuple[slice, slice]) -> "Tissue":
        """A part of the section that shares its memory: to change it is to change the whole."""
        return Tissue(self.level[window], self.specular[window], self.attenuation[window])
