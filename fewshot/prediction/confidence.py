"""How much there is of a mask, how sure the model is of it, and what a reader should be warned of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes.components import count_components

UNSURE_BELOW = 0.85
"""A mask of a lower `lesion_confidence` is flagged."""

UNLIKE_ABOVE = 1.0
"""An image of a higher novelty is flagged: 1 % of the training's own images would be."""


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What is said of a mask.

    Attributes:
        area: in pixels.
        coverage: share of the image, in [0, 1].
        components: connected parts (8 neighbours).
        mean_confidence: mean over all pixels of how sure the model is of what it says there: the probability of a
            lesion within the mask, 1 minus that outside; in [0.5, 1].
        lesion_confidence: see `lesion_confidence`; in [0.5, 1], NaN of an empty mask.
    """

    area: int
    coverage: float
    components: int
    mean_confidence: float
    lesion_confidence: float


def mask_facts(mask: NDArray[np.bool_], probability: NDArray[np.floating]) -> MaskFacts:
    """Describe a mask (H, W) by itself and by the probabilities (H, W) that it was cut from."""
    area = int(np.count_nonzero(mask))
    return MaskFacts(
        area=area,
        coverage=area / mask.size,
        components=count_components(mask),
        mean_confidence=float(np.where(mask, probability, 1 - probability).mean(dtype=np.float64)),
        lesion_confidence=lesion_confidence(mask, probability),
    )


def lesion_confidence(mask: NDArray[np.bool_], probability: NDArray[np.floating]) -> float:
    """How probable a lesion is on average where the mask (H, W) has one: the precision that the model expects.

    Of what was tried on BUS-UCLM (docs/prediction.md), this ranks masks best by their true Dice under every model; the
    Dice that a model expects, 2 sum(p m) / (sum p + sum m), is misled by small probabilities all over the image.

    >>> round(lesion_confidence(np.array([[True, True, False]]), np.array([[0.9, 0.7, 0.4]])), 3)
    0.8
    """
    return float(probability[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def warnings_of(facts: MaskFacts, novelty: float | None = None) -> dict[str, str]:
    """Flags and, in plain words, why.

    Args:
        facts: of the mask.
        novelty: of the image, see `Predicted`; None where it is not known.

    Returns:
        `empty`, `unsure` and `unlike`, as far as they apply, each with its reason.

    >>> list(warnings_of(MaskFacts(900, 0.1, 1, 0.99, 0.6), novelty=1.2))
    ['unsure', 'unlike']
    """
    flags = {}
    if not facts.area:
        flags["empty"] = "no lesion was found"
    elif facts.lesion_confidence < UNSURE_BELOW:
        flags["unsure"] = f"the model is only {facts.lesion_confidence:.0%} sure of what it marked"
    if novelty is not None and novelty > UNLIKE_ABOVE:
        flags["unlike"] = "the image looks unlike those that the model has seen"
    return flags
