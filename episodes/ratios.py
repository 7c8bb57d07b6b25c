"""Scores that are ratios of sums over images, and their intervals over resampled patients.

Everything is such a ratio, or the mean of some over classes, so that one function gives all of them their intervals.
The rule for what is missing is that of `episodes.metrics`: a class that no image holds has no score (NaN), and one that
is never predicted where it is held scores 0, its precision too. Specificity alone needs no image of the class, and
shows what is predicted falsely.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from episodes.statistics import FloatArray, IntArray, Interval, weighted_interval


@dataclass(frozen=True, slots=True)
class Ratios:
    """A score as a ratio of sums over images, by class; each array is (n_images, n_classes).

    A class with nothing in `present` has no score; otherwise one with nothing in `bottom` scores 0.
    """

    top: FloatArray
    bottom: FloatArray
    present: FloatArray

    def of(self, index: int) -> "Ratios":
        """The score of one class."""
        return Ratios(*(values[:, [index]] for values in (self.top, self.bottom, self.present)))

    def mean(self, weights: FloatArray) -> FloatArray:
        """Of weighted images (m, n_images) the mean over the classes that have a score, (m,)."""
        tops, bottoms, present = (weights @ values for values in (self.top, self.bottom, self.present))
        scores = np.divide(tops, bottoms, out=np.zeros_like(tops), where=(bottoms > 0) & (present > 0))
        n_scores = np.count_nonzero(present, axis=1)
        means = np.full(len(scores), nan)
        np.divide(scores.sum(axis=1), n_scores, out=means, where=n_scores > 0)
        return means

    def interval(self, weights: IntArray, level: float) -> Interval:
        """The mean over classes with its interval, from the images it depends on."""
        counts = ((self.bottom > 0) | (self.present > 0)).any(axis=1)
        kept = Ratios(self.top[counts], self.bottom[counts], self.present[counts])
        return weighted_interval(kept.mean, weights[:, counts], level)


def pooled_rates(counts: NDArray[np.generic]) -> dict[str, Ratios]:
    """Scores of pooled counts: of true and false positives, false and true negatives, (n_images, n_classes, 4)."""
    hits, false_alarms, misses, rest = np.moveaxis(counts.astype(np.float64), -1, 0)
    present, others = hits + misses, rest + false_alarms
    return {
        "sensitivity": Ratios(hits, present, present),
        "specificity": Ratios(rest, others, others),
        "precision": Ratios(hits, hits + false_alarms, present),
        "f1": Ratios(2 * hits, 2 * hits + false_alarms + misses, present),
    }
