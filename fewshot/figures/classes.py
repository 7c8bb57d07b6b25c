"""How the classes of images look in figures: green benign, red malignant, as clinicians expect."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from episodes.records import Label
from fewshot.figures.style import GREEN, ORANGE, SKY, VERMILLION


@dataclass(frozen=True, slots=True)
class Look:
    """One class's colours.

    Attributes:
        outline: of a lesion, on a dark image; the brighter the class, the easier to tell apart without colours.
        dashes: of the outline, for who sees red and green as one.
        bar: of a bar, on white.
    """

    outline: str
    dashes: str | tuple[float, tuple[float, ...]]
    bar: str

    @property
    def line(self) -> dict[str, Any]:
        """The outline as matplotlib's keywords."""
        return {"color": self.outline, "linestyle": self.dashes}


LOOKS: Mapping[Label, Look] = MappingProxyType(
    {
        "benign": Look("#3DF08B", "solid", GREEN),
        "malignant": Look("#FF4040", (0, (4, 1)), VERMILLION),
        "unknown": Look("#FFC83D", (0, (1.2, 0.8)), ORANGE),
        "normal": Look("#FFFFFF", "solid", SKY),  # has no outline
    }
)
"""In the order in which figures show them."""
