"""One query's prediction against its truth: everything that a row of the results table holds of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.metrics import Scores, Spacing, score
from episodes.probability_histogram import ProbabilityHistogram
from fewshot.results.table import CALIBRATION_BINS

TOLERANCE_MM = 1.0
"""Largest distance at which two boundaries agree, for the normalised surface Dice in millimetres."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is found of one query.

    Attributes:
        scores: of the predicted mask.
        hd95_mm: 95 % Hausdorff distance in millimetres; NaN where the size of a pixel is unknown.
        nsd_mm: normalised surface Dice at `TOLERANCE_MM`; likewise.
        image_pixels: of the image.
        lesion_pixels: of the truth.
        predicted_pixels: of the prediction.
        overlap_pixels: of both.
        bin_counts: pixels in each bin of predicted probability, (CALIBRATION_BINS,); None without probabilities.
        bin_confidences: their summed probability; likewise.
        bin_positives: how many of them are lesion; likewise.
    """

    scores: Scores
    hd95_mm: float
    nsd_mm: float
    image_pixels: int
    lesion_pixels: int
    predicted_pixels: int
    overlap_pixels: int
    bin_counts: list[int] | None = None
    bin_confidences: list[float] | None = None
    bin_positives: list[int] | None = None

    def columns(self) -> Mapping[str, Any]:
        """The values by column of the results table."""
        columns = {name: getattr(self, name) for name in self.__slots__ if name != "scores"}
        return asdict(self.scores) | columns


def judge(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    probability: NDArray[np.floating] | None = None,
    spacing: Spacing | None = None,
) -> Judgement:
    """Score a query.

    Args:
        prediction: predicted lesion, boolean (H, W).
        truth: annotated lesion, boolean (H, W).
        probability: of lesion, in [0, 1], (H, W); None where a method gives none.
        spacing: millimetres from one pixel to the next, (row, column), at this size; None where unknown.
    """
    bins: dict[str, list[Any]] = {}
    if probability is not None:
        histogram = ProbabilityHistogram(CALIBRATION_BINS)
        histogram.add(probability, truth)
        bins = {
            "bin_counts": (histogram.positives + histogram.negatives).tolist(),
            "bin_confidences": histogram.sums.tolist(),
            "bin_positives": histogram.positives.tolist(),
        }
    measured = None if spacing is None else score(prediction, truth, tolerance=TOLERANCE_MM, spacing=spacing)
    return Judgement(
        scores=score(prediction, truth),
        hd95_mm=np.nan if measured is None else measured.hd95,
        nsd_mm=np.nan if measured is None else measured.nsd,
        image_pixels=truth.size,
        lesion_pixels=int(np.count_nonzero(truth)),
        predicted_pixels=int(np.count_nonzero(prediction)),
        overlap_pixels=int(np.count_nonzero(prediction & truth)),
        **bins,
    )


def working_spacing(spacing: Spacing | None, original: tuple[int, int], working: tuple[int, int]) -> Spacing | None:
    """The size of a pixel once an image is stretched to the working size.

    Args:
        spacing: of the original, (row, column); None where unknown.
        original: (height, width) in pixels.
        working: likewise.

    >>> working_spacing((0.1, 0.25), (400, 600), (200, 200))
    (0.2, 0.75)
    """
    if spacing is None:
        return None
    return spacing[0] * original[0] / working[0], spacing[1] * original[1] / working[1]
