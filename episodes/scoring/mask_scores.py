"""Scores of a predicted mask against the true one: Dice, IoU, precision, recall, boundaries, and PANet's pooled IoU.

The empty-mask rule, which holds for every score: an image without a lesion has no lesion scores (NaN), and its
prediction is a false positive or none; a lesion that is missed altogether scores 0, never 1, and its 95 % Hausdorff
distance is the image's diagonal.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, hypot, nan

import numpy as np
from numpy.typing import NDArray

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
    boundaries: "Boundaries | None" = None,
) -> Scores:
    """Score one predicted mask in every way.

    Args:
        prediction: predicted lesion, boolean (H, W).
        truth: annotated lesion, boolean (H, W); empty for a normal image.
        tolerance: largest distance at which two boundaries agree, in pixels, or in the unit of `spacing`.
        min_area: share of a normal image from which the prediction on it is a false positive.
        spacing: size of a pixel (row, column), such as millimetres; without it distances are in pixels.
        boundaries: those of the two masks, where they are at hand.

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
    hd95, nsd = (boundaries or Boundaries(prediction, truth)).scores(tolerance, spacing)
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


class Surface:
    """The surface pixels of a mask as row and column, (n, 2), and a k-d tree over them; empty for an empty mask.

    The tree gives exactly the distances of the image's Euclidean distance transform, many times faster: a lesion's
    surface is some hundred pixels of 65,000.
    """

    def __init__(self, pixels: NDArray[np.number]) -> None:
        from scipy.spatial import cKDTree  # a sixth of a second, which a prediction need not wait for

        self.pixels = np.asarray(pixels, np.float64)
        # Balanced trees answer no faster here, and take longer to build.
        self.tree = cKDTree(self.pixels, leafsize=32, balanced_tree=False, compact_nodes=False)


class Boundaries:
    """Distances between the surfaces of a predicted and a true mask, found once for all scales of like pixels.

    `surface`, that of the truth, need not be found again where it is at hand.
    """

    def __init__(self, prediction: BoolArray, truth: BoolArray, surface: Surface | None = None) -> None:
        self.masks, self.surface = (prediction, truth), surface
        self.distances_of = lru_cache(self._distances)

    def scores(self, tolerance: float, spacing: Spacing) -> tuple[float, float]:
        """Compute the 95 % Hausdorff distance and the normalised surface Dice; the truth must not be empty."""
        if not self.masks[0].any():
            return hypot(*np.multiply(self.masks[0].shape, spacing)), 0.0
        side = min(spacing)
        every, far = self.distances_of(max(spacing) / side, spacing[0] > spacing[1])
        # A hair more than the tolerance: with a spacing such as 0.1, three pixels are 0.30000000000000004.
        return side * far, float(np.mean(every * side <= tolerance * (1 + 1e-9)))

    def _distances(self, oblong: float, high: bool) -> tuple[NDArray[np.float64], float]:
        """Compute how far all surface pixels are from the other's surface, and the larger of the 95th percentiles.

        They are in a pixel's shorter sides; the longer, vertical of `high` pixels, are `oblong` times as long.
        """
        if oblong == 1:
            ours, theirs = (
                Surface(surface_pixels(self.masks[0])),
                self.surface or Surface(surface_pixels(self.masks[1])),
            )
        else:
            ratio = min(oblong, _MOST_OBLONG)
            ours, theirs = (
                Surface(surface_pixels(_with_low_rows(mask if high else mask.T, ratio)) * np.array((oblong / ratio, 1)))
                for mask in cropped(*self.masks)
            )
        directed = theirs.tree.query(ours.pixels)[0], ours.tree.query(theirs.pixels)[0]
        return np.concatenate(directed), max(float(np.percentile(one, 95)) for one in directed)


def cropped(prediction: BoolArray, truth: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Cut two masks, not both empty, to the rows and columns from their first pixel to their last."""
    either = prediction | truth
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return prediction[part], truth[part]


def _with_low_rows(mask: BoolArray, ratio: float) -> BoolArray:
    """Redraw a mask (H, W) whose pixels are `ratio` times as high as wide on square ones, (ceil((H + 2) ratio), W).

    Each pixel of a boundary counts once. Were they oblong, horizontal boundaries would count less than vertical ones:
    the same shift of the same lesion would score otherwise on an image that is stretched to a square. The border is
    where the signed distance to it, interpolated between rows, is 0: mere repetition would turn slopes to stairs, of
    more pixels. Rows beside the mask count as background, and are kept. What is set in one pixel does not vanish.
    """
    padded = np.pad(mask, ((1, 1), (0, 0)))
    distance = np.full(padded.shape, ratio)  # in widths of a pixel; farther than the next row does not matter
    for step in range(ceil(ratio) - 1, 0, -1):
        left = np.pad(padded, ((0, 0), (step, 0)))[:, : padded.shape[1]]
        right = np.pad(padded, ((0, 0), (0, step)))[:, step:]
        distance[(padded != left) | (padded != right)] = step
    depth = np.where(padded, distance, -distance)
    places = ((np.arange(ceil(len(padded) * ratio)) + 0.5) / ratio - 0.5).clip(0, len(padded) - 1)
    above = np.minimum(places.astype(np.intp), len(padded) - 2)
    share = (places - above)[:, np.newaxis]
    return np.asarray(depth[above] * (1 - share) + depth[above + 1] * share >= 0)


def surface_pixels(mask: BoolArray) -> NDArray[np.int64]:
    """Find row and column of the pixels that an erosion by the 4-neighbourhood removes, (n, 2).

    Pixels at the image's border are surface, as everything outside the image counts as background.
    """
    surface = mask.copy()  # sliced, as scipy's erosion takes six times as long
    surface[1:-1, 1:-1] &= ~(mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:])
    return np.stack(np.divmod(np.flatnonzero(surface), mask.shape[1]), axis=1)


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
