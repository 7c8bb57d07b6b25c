"""Scores of a predicted mask against the true one: Dice, IoU, precision, recall, boundaries, and PANet's pooled IoU.

The empty-mask rule, which holds for every score: an image without a lesion has no lesion scores (NaN), and its
prediction is a false positive or none; a lesion that is missed altogether scores 0, never 1, and its 95 % Hausdorff
distance is the image's diagonal.
"""

from dataclasses import dataclass
from math import ceil, hypot, nan

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from episodes.images.spacing import Spacing

BoolArray = NDArray[np.bool_]

TOLERANCE = 2.0
# Just below the smallest lesion of BUSI, BUS-BRA and BUS-UCLM, which covers 0.0016 of its image.
MIN_AREA = 0.001
DETECTION_IOU = 0.5
# Pixels more oblong than this, which no scanner makes, are not made quite square: a wrong spacing would fill memory.
_MOST_OBLONG = 16.0


def dice(prediction: BoolArray, truth: BoolArray) -> float:
    """Compute the Dice coefficient 2 |P and T| / (|P| + |T|) of two boolean masks (H, W); NaN where `truth` is empty.

    Raises:
        ValueError: if a mask is not boolean (H, W), or the shapes differ.

    >>> truth = np.array([[True, True, False, False]])
    >>> dice(np.array([[False, True, True, False]]), truth), dice(~truth, truth), dice(truth, truth & False)
    (0.5, 0.0, nan)
    """
    overlap, predicted, present = _count(prediction, truth)
    return 2 * overlap / (predicted + present) if present else nan


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one query image; NaN where a score is undefined.

    Attributes:
        dice: Dice coefficient (the F1 of pixels), in [0, 1].
        iou: intersection over union (Jaccard index), in [0, 1].
        precision: share of the predicted pixels that are lesion, in [0, 1].
        recall: share of the lesion's pixels that are predicted, in [0, 1].
        hd95: 95 % Hausdorff distance in pixels, or in the unit of `spacing`: the larger 95th percentile of the two
            directed surface distances, as in MONAI.
        nsd: normalised surface Dice, in [0, 1]: the share of both surfaces' pixels within the tolerance of the other
            (Nikolov et al. 2021; pixel count as in Seidlitz et al. 2022, and MONAI). Oblong pixels are
            made square for both boundary scores.
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
    spacing: Spacing = (1.0, 1.0),
) -> Scores:
    """Score one predicted mask in every way.

    Args:
        prediction: predicted lesion, boolean (H, W).
        truth: annotated lesion, boolean (H, W); empty for a normal image.
        tolerance: largest distance at which two boundaries agree, in pixels, or in the unit of `spacing`.
        min_area: share of a normal image from which the prediction on it is a false positive.
        spacing: size of a pixel (row, column), such as millimetres; without it distances are in pixels.

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
    overlap, predicted, present = _count(prediction, truth)
    if not present:
        area = predicted / truth.size
        return Scores(nan, nan, nan, nan, nan, nan, nan, area, float(area > 0 and area >= min_area))
    iou = overlap / (predicted + present - overlap)
    if predicted:
        hd95, nsd = _boundary_scores(prediction, truth, tolerance, spacing)
    else:
        hd95, nsd = hypot(truth.shape[0] * spacing[0], truth.shape[1] * spacing[1]), 0.0
    return Scores(
        dice=2 * overlap / (predicted + present),
        iou=iou,
        precision=overlap / predicted if predicted else 0.0,
        recall=overlap / present,
        hd95=hd95,
        nsd=nsd,
        detected=float(iou > DETECTION_IOU),
        false_positive_area=nan,
        false_positive=nan,
    )


def _boundary_scores(
    prediction: BoolArray, truth: BoolArray, tolerance: float, spacing: Spacing
) -> tuple[float, float]:
    """Compute the 95 % Hausdorff distance and the normalised surface Dice of two masks that are not empty.

    A k-d tree over the surface pixels gives exactly the values of the image's Euclidean distance transform, many times
    faster: a lesion's surface is some hundred pixels of 65,000.
    """
    if spacing[0] > spacing[1]:
        prediction, truth, spacing = prediction.T, truth.T, spacing[::-1]
    if spacing[0] < spacing[1]:
        ratio = min(spacing[1] / spacing[0], _MOST_OBLONG)
        columns = np.flatnonzero((prediction | truth).any(axis=0))
        part = slice(columns[0], columns[-1] + 1)
        prediction, truth = (_with_narrow_columns(mask[:, part], ratio) for mask in (prediction, truth))
        spacing = spacing[0], spacing[1] / ratio
    ours, theirs = (_surface(mask) * np.array(spacing) for mask in (prediction, truth))
    directed = KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]
    # A hair more than the tolerance: with a spacing such as 0.1, three pixels are 0.30000000000000004.
    near = np.concatenate(directed) <= tolerance * (1 + 1e-9)
    return max(float(np.percentile(distances, 95)) for distances in directed), float(np.mean(near))


def _with_narrow_columns(mask: BoolArray, ratio: float) -> BoolArray:
    """Redraw a mask (H, W) whose pixels are `ratio` times as wide as high on square ones, (H, ceil((W + 2) ratio)).

    Each pixel of a boundary counts once. Were they oblong, horizontal boundaries would count less than vertical ones:
    the same shift of the same lesion would score otherwise on an image that is stretched to a square. The border is
    where the signed distance to it, interpolated between columns, is 0: mere repetition would turn slopes to stairs,
    of more pixels. Columns beside the mask count as background, and are kept. What is set in one pixel does not vanish.
    """
    padded = np.pad(mask, ((0, 0), (1, 1)))
    distance = np.full(padded.shape, ratio)  # in heights of a pixel; farther than the next column does not matter
    for step in range(ceil(ratio) - 1, 0, -1):
        above = np.pad(padded, ((step, 0), (0, 0)))[: len(padded)]
        below = np.pad(padded, ((0, step), (0, 0)))[step:]
        distance[(padded != above) | (padded != below)] = step
    depth = np.where(padded, distance, -distance)
    places = ((np.arange(ceil(padded.shape[1] * ratio)) + 0.5) / ratio - 0.5).clip(0, padded.shape[1] - 1)
    left = np.minimum(places.astype(np.intp), padded.shape[1] - 2)
    share = places - left
    return np.asarray(depth[:, left] * (1 - share) + depth[:, left + 1] * share >= 0)


def _surface(mask: BoolArray) -> NDArray[np.int64]:
    """Find row and column of the pixels that an erosion by the 4-neighbourhood removes, (n, 2).

    Pixels at the image's border are surface, as everything outside the image counts as background.
    """
    padded = np.pad(mask, 1)  # sliced, as scipy's erosion takes six times as long
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.stack(np.divmod(np.flatnonzero(mask & ~inner), mask.shape[1]), axis=1)


def _count(prediction: BoolArray, truth: BoolArray) -> tuple[int, int, int]:
    """Count the pixels of the overlap, of the prediction and of the truth, once these are two masks of one shape."""
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"{name} must be a boolean array (H, W), not {mask.dtype} {mask.shape}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    overlap, predicted, present = (int(np.count_nonzero(mask)) for mask in (prediction & truth, prediction, truth))
    return overlap, predicted, present


def pooled_iou(overlap: NDArray[np.int64], union: NDArray[np.int64], classes: NDArray[np.int64]) -> tuple[float, float]:
    """Compute the IoU over many episodes as PANet's code defines it (Wang et al. 2019, its `util/metric.py`).

    Pixels are summed over all episodes before the division, so large lesions dominate, and a class is counted only in
    the images that hold it, so its false positives elsewhere go unseen. Hence never a headline.

    Overlap and union are the pixels that prediction and truth share and that either of them has, of each class in each
    image that holds it, (n,); classes are 0 for the background, others any class, (n,).

    Returns:
        The mean over the foreground classes; and the mean of background and foreground, all classes as one. NaN where
            no image holds what is needed.

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
