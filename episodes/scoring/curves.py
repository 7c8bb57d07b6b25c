"""Predicted probabilities by truth, counted in bins: ROC and calibration over more pixels than memory holds."""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray, IntArray

BINS = 1000
RELIABILITY_BINS = 10
# How far rounding may carry a probability, such as a sum over classes in float32, out of [0, 1].
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class RocCurve:
    """A receiver operating characteristic, from the highest threshold to the lowest; rates in [0, 1].

    The area is that under straight lines between the points, NaN without positives or negatives; the exact one of the
    unbinned probabilities differs by no more than `auc_error`.
    """

    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    auc: float
    auc_error: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted probability against observed frequency, in bins of equal width over [0, 1]; NaN where a bin is empty.

    The calibration error is the mean gap between the two over all predictions (Guo et al. 2017, eq. 3, for the
    probability of one class); NaN without predictions.
    """

    mean_confidences: tuple[float, ...]
    observed_frequencies: tuple[float, ...]
    counts: tuple[int, ...]
    expected_calibration_error: float

    @classmethod
    def of_bins(
        cls, counts: NDArray[np.number], sums: NDArray[np.number], positives: NDArray[np.number]
    ) -> "Reliability":
        """Compare probability and frequency by bin, from counts, summed probabilities and positives, (n_bins,)."""
        frequencies, confidences = (
            np.divide(values, counts, out=np.full(len(counts), nan), where=counts > 0) for values in (positives, sums)
        )
        total = counts.sum()
        return cls(
            mean_confidences=tuple(confidences.tolist()),
            observed_frequencies=tuple(frequencies.tolist()),
            counts=tuple(int(count) for count in counts),
            expected_calibration_error=float(np.abs(positives - sums).sum() / total) if total else nan,
        )


class ProbabilityHistogram:
    """Counts of how many positives and negatives were given each probability of being positive, by bin; one per class.

    Costs the same memory for one pixel and for a billion. Bins are of equal width over [0, 1]; the last holds 1 itself.
    Probabilities are summed by bin as well, so that mean confidences are exact.

    >>> histogram = ProbabilityHistogram()
    >>> histogram.add(np.array([[0.1, 0.4], [0.35, 0.8]]), np.array([[False, False], [True, True]]))
    >>> histogram.roc().auc
    0.75
    >>> round(histogram.reliability().expected_calibration_error, 4)
    0.3375
    """

    def __init__(self, n_bins: int = BINS) -> None:
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, not {n_bins}")
        self.n_bins = n_bins
        self.positives: IntArray = np.zeros(n_bins, np.int64)
        self.negatives: IntArray = np.zeros(n_bins, np.int64)
        self.sums: FloatArray = np.zeros(n_bins)

    def add(self, probabilities: NDArray[np.floating], truths: NDArray[np.bool_]) -> None:
        """Count predictions: probabilities of being positive, in [0, 1], and boolean truths of the same shape.

        Raises:
            ValueError: if the shapes differ, truths are not boolean, or a probability is NaN or outside [0, 1].
        """
        if truths.dtype != np.bool_ or truths.shape != probabilities.shape:
            raise ValueError(f"truths must be boolean {probabilities.shape}, not {truths.dtype} {truths.shape}")
        if not probabilities.size:
            return
        low, high = float(probabilities.min()), float(probabilities.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):
            raise ValueError(f"probabilities must lie in [0, 1], not from {low:g} to {high:g}: pass no logits")
        flat = probabilities.ravel().clip(0, 1)
        bins = (flat * self.n_bins).astype(np.intp)
        np.minimum(bins, self.n_bins - 1, out=bins)
        positives = np.bincount(bins[truths.ravel()], minlength=self.n_bins)
        self.sums += np.bincount(bins, weights=flat, minlength=self.n_bins)
        self.negatives += np.bincount(bins, minlength=self.n_bins) - positives
        self.positives += positives

    def roc(self) -> RocCurve:
        """Compute the ROC, each lower bin edge a threshold; no points where positives or negatives are missing."""
        n_positives, n_negatives = int(self.positives.sum()), int(self.negatives.sum())
        if not (n_positives and n_negatives):
            return RocCurve((), (), nan, nan)
        true, false = (np.cumsum(counts[::-1]) for counts in (self.positives, self.negatives))
        ties = float(self.positives.astype(np.float64) @ self.negatives)
        return RocCurve(
            false_positive_rates=(0.0, *(false / n_negatives).tolist()),
            true_positive_rates=(0.0, *(true / n_positives).tolist()),
            auc=float(area_under_roc(self.positives, self.negatives)),
            auc_error=ties / 2 / (n_positives * n_negatives),
        )

    def reliability(self, n_bins: int = RELIABILITY_BINS) -> Reliability:
        """Compare predicted probabilities with observed frequencies, in bins whose edges are rounded to those here.

        Raises:
            ValueError: if there would be less than one bin, or more than the histogram has.
        """
        if not 1 <= n_bins <= self.n_bins:
            raise ValueError(f"n_bins must lie between 1 and the histogram's {self.n_bins}, not {n_bins}")
        centres = (np.arange(self.n_bins) + 0.5) / self.n_bins
        coarse = (centres * n_bins).astype(np.intp)
        positives, counts, sums = (
            np.bincount(coarse, weights=values, minlength=n_bins)
            for values in (self.positives, self.positives + self.negatives, self.sums)
        )
        return Reliability.of_bins(counts, sums, positives)


def area_under_roc(positives: NDArray[np.number], negatives: NDArray[np.number]) -> FloatArray:
    """Compute the area under the ROC: how often a positive scores above a negative, ties counting half (trapezoids).

    Positives and negatives are numbers or weights at each score, scores ascending, (..., n_scores); areas are in [0,
    1], (...), NaN where there are no positives or no negatives.

    >>> area_under_roc(np.array([0, 1, 1]), np.array([1, 1, 0]))  # of four pairs three in order, one tied
    array(0.875)
    """
    ours, theirs = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    below = np.cumsum(theirs, axis=-1) - theirs / 2
    pairs = ours.sum(axis=-1) * theirs.sum(axis=-1)
    ordered = np.einsum("...i,...i->...", ours, below)
    return np.asarray(np.divide(ordered, pairs, out=np.full(np.shape(pairs), nan), where=pairs > 0))
