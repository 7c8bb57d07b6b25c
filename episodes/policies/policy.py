"""A policy: what of a dataset is used, and as what."""

from dataclasses import dataclass
from typing import Any, Literal

from episodes.policies.corrections import Corrections
from episodes.policies.curated_list import CuratedList

Duplicates = Literal["group", "keep-first", "drop-all"]
Doppler = Literal["keep", "drop"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What of a dataset is used, and as what; it is followed in the order corrections, curated, doppler, duplicates.

    Attributes:
        duplicates: what is done with near-duplicates, as in `episodes.policies.near_duplicates`.
        doppler: whether images with a Doppler overlay are kept.
        curated: the images to choose from; None for all.
        corrections: mistakes of the dataset that are mended; None for none.

    >>> Policy().duplicates
    'group'
    """

    duplicates: Duplicates = "group"
    doppler: Doppler = "keep"
    curated: CuratedList | None = None
    corrections: Corrections | None = None

    @property
    def content(self) -> dict[str, Any]:
        """What the policy says as JSON has it, wherever its files lie."""
        curated, corrections = self.curated, self.corrections
        return {
            "duplicates": self.duplicates,
            "doppler": self.doppler,
            "curated": None if curated is None else sorted(curated.names),
            "corrections": None if corrections is None else corrections.content,
        }
