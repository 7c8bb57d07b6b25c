"""Scores of a predicted mask against the true one: Dice, IoU, boundaries, pooled IoU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import hypot, nan

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Spacing = tuple[float, float]

TOLERANCE = 2.0
# Just below the smallest lesion of BUSI, BUS-BRA and BUS-UCLM, which covers 0.0016 of its image.
MIN_AREA = 0.001
DETECTION_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one query image; NaN where a score is undefined.

    Attributes:
        dice: Dice coefficient (the F1 of pixels), in [0, 1].
        iou: intersection over union (Jaccard index), in [0, 1].
        precision: share of the predicted pixels that are lesion, in [0, 1].
        recall: share of the lesion's pixels that are predicted, in [0, 1].
        hd95: 95 % Hausdorff distance in pixels, or in the unit of `spacing`.
        nsd: normalised surface Dice at the tolerance, in [0, 1].
        detected: 1 if the IoU exceeds 0.5, else 0; NaN on images without a lesion.
        false_positive_area: share of the image predicted as lesion; NaN on images with a lesion.
        false_positive: 1 if that share reaches `min_area`, else 0; NaN on images with a lesion.
    """

    dice: float
    iou: float
    precision: float
    recall: float
    hd95: float
    nsd: float
    detected: float
    false_positive_area: float
    false_positive: float


def score(
    prediction: BoolArray,
    truth: BoolArray,
    *,
    tolerance: float = TOLERANCE,
    min_area: float = MIN_AREA,
    spacing: Spacing | None = None,
) -> Scores:
    """Score one predicted mask in every way: the values of the single functions, their parts computed once.

    Args:
        prediction: predicted lesion, boolean (H, W).
        truth: annotated lesion, boolean (H, W); empty for a normal image.
        tolerance: largest distance at which two boundaries agree, in pixels, or in the unit of `spacing`.
        min_area: share of a normal image from which the prediction on it is a false positive.
        spacing: size of a pixel (row, column), such as millimetres; None measures in pixels.

    Raises:
        ValueError: if a mask is not boolean (H, W), or the shapes differ.

    >>> truth = np.zeros((8, 8), dtype=bool)
    >>> truth[2:4, 2:6] = True
    >>> half = truth & (np.arange(8) < 4)
    >>> scores = score(half, truth)
    >>> round(scores.dice, 3), scores.iou, scores.precision, scores.recall, scores.detected
    (0.667, 0.5, 1.0, 0.5, 0.0)
    >>> on_a_normal = score(half, np.zeros_like(truth))
    >>> on_a_normal.dice, on_a_normal.false_positive_area, on_a_normal.false_positive
    (nan, 0.0625, 1.0)
    """
    pair = _Comparison(prediction, truth, spacing)
    normal = not pair.has_truth
    area = pair.predicted / truth.size
    return Scores(
        dice=pair.dice(),
        iou=pair.iou(),
        precision=pair.precision(),
        recall=pair.recall(),
        hd95=pair.hausdorff95(),
        nsd=pair.surface_dice(tolerance),
        detected=nan if normal else float(pair.iou() > DETECTION_IOU),
        false_positive_area=area if normal else nan,
        false_positive=float(area > 0 and area >= min_area) if normal else nan,
    )


def dice(prediction: BoolArray, truth: BoolArray) -> float:
    """Dice coefficient, 2 TP / (2 TP + FP + FN), of two boolean masks (H, W)."""
    return _Comparison(prediction, truth).dice()


def iou(prediction: BoolArray, truth: BoolArray) -> float:
    """Intersection over union, TP / (TP + FP + FN), of two boolean masks (H, W)."""
    return _Comparison(prediction, truth).iou()


def precision(prediction: BoolArray, truth: BoolArray) -> float:
    """Share of predicted pixels that are lesion, TP / (TP + FP), of two boolean masks (H, W)."""
    return _Comparison(prediction, truth).precision()


def recall(prediction: BoolArray, truth: BoolArray) -> float:
    """Share of lesion pixels that are predicted, TP / (TP + FN), of two boolean masks (H, W)."""
    return _Comparison(prediction, truth).recall()


def hausdorff95(prediction: BoolArray, truth: BoolArray, *, spacing: Spacing | None = None) -> float:
    """95 % Hausdorff distance: the larger 95th percentile of the two directed surface distances, as in MONAI.

    In pixels, or in the unit of `spacing`. A missed lesion gets the image's diagonal, the largest value.
    """
    return _Comparison(prediction, truth, spacing).hausdorff95()


def surface_dice(
    prediction: BoolArray, truth: BoolArray, *, tolerance: float = TOLERANCE, spacing: Spacing | None = None
) -> float:
    """Normalised surface Dice (Nikolov et al. 2021; pixel count as in Seidlitz et al. 2022, and MONAI).

    The share of both surfaces' pixels within `tolerance` of the other, in pixels or the unit of `spacing`.
    """
    return _Comparison(prediction, truth, spacing).surface_dice(tolerance)


class _Comparison:
    """A prediction beside its truth: what the scores share, each part computed at most once."""

    def __init__(self, prediction: BoolArray, truth: BoolArray, spacing: Spacing | None = None) -> None:
        _require_masks(prediction, truth)
        self.prediction, self.truth, self.spacing = prediction, truth, spacing or (1.0, 1.0)
        self.true_positive = int(np.count_nonzero(prediction & truth))
        self.predicted = int(np.count_nonzero(prediction))
        self.present = int(np.count_nonzero(truth))

    @property
    def has_truth(self) -> bool:
        return self.present > 0

    def ruled(self, value: Callable[[], float], missed: float = 0.0) -> float:
        """The empty-mask rule: `value` where both masks are there; see the table at the top of the module."""
        if not self.has_truth:
            return nan
        if not self.predicted:
            return missed
        return value()

    def dice(self) -> float:
        return self.ruled(lambda: 2 * self.true_positive / (self.predicted + self.present))

    def iou(self) -> float:
        return self.ruled(lambda: self.true_positive / (self.predicted + self.present - self.true_positive))

    def precision(self) -> float:
        return self.ruled(lambda: self.true_positive / self.predicted)

    def recall(self) -> float:
        return self.ruled(lambda: self.true_positive / self.present)

    def hausdorff95(self) -> float:
        (H, W), (row, column) = self.truth.shape, self.spacing
        return self.ruled(
            lambda: max(float(np.percentile(distances, 95)) for distances in self.surface_distances),
            missed=hypot(H * row, W * column),
        )

    def surface_dice(self, tolerance: float) -> float:
        # A hair more than the tolerance: with a spacing such as 0.1, three pixels are 0.30000000000000004.
        within = tolerance * (1 + 1e-9)
        return self.ruled(lambda: float(np.mean(np.concatenate(self.surface_distances) <= within)))

    @cached_property
    def surface_distances(self) -> tuple[FloatArray, FloatArray]:
        """From each surface pixel of the one mask to the nearest of the other: prediction to truth, and back.

        A k-d tree over the surface pixels gives exactly the values of the image's Euclidean distance
        transform, many times faster: a lesion's surface is some hundred pixels of 65,000.
        """
        ours, theirs = (_surface(mask) * np.array(self.spacing) for mask in (self.prediction, self.truth))
        return KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]


def _surface(mask: BoolArray) -> IntArray:
    """Row and column of the pixels that an erosion by the 4-neighbourhood removes, (n, 2).

    Pixels at the image's border are surface, as everything outside the image counts as background.
    """
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.stack(np.divmod(np.flatnonzero(mask & ~inner), mask.shape[1]), axis=1)


def _require_masks(prediction: BoolArray, truth: BoolArray) -> None:
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"{name} must be a boolean array (H, W), not {mask.dtype} {mask.shape}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")


def pooled_iou(overlap: NDArray[np.int64], union: NDArray[np.int64], classes: NDArray[np.int64]) -> tuple[float, float]:
    """Compute the IoU over many episodes as PANet's code defines it (Wang et al. 2019, its `util/metric.py`).

    Pixels are summed over all episodes before the division, so large lesions dominate, and a class is counted
    only in the images that hold it, so its false positives elsewhere go unseen. Hence never a headline.

    Args:
        overlap: pixels that prediction and truth share, of each class in each image that holds it, (n,).
        union: pixels that either of them has, (n,).
        classes: what the pixels are of: 0 the background, others any class, (n,).

    Returns:
        The mean over the foreground classes; and the mean of background and foreground, all classes as one. NaN
        where no image holds what is needed.

    >>> pooled_iou(np.array([2, 1, 1, 2]), np.array([3, 2, 2, 2]), np.array([1, 2, 1, 0]))
    (0.55, 0.785714...)
    """
    present = np.unique(classes)
    both, either = (np.array([pixels[classes == one].sum() for one in present]) for pixels in (overlap, union))
    lesion = present > 0
    if not lesion.any():
        return nan, nan
    foreground = both[lesion].sum() / either[lesion].sum()
    background = both[0] / either[0] if not lesion[0] else nan
    return float(np.mean(both[lesion] / either[lesion])), float(foreground + background) / 2
