"""Scores of one row of a report as training seeds x draws x queries, and their means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from episodes.statistics import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Queries:
    """Images of one target, sorted by id; every attribute is (n_queries,).

    Attributes:
        ids: of the records.
        patients: whose image each is.
        labels: `benign` and the like.
        lesion_shares: share of the image that the lesion covers, in [0, 1]; NaN where pixels were not counted.
    """

    ids: Sequence[str]
    patients: Sequence[str]
    labels: Sequence[str]
    lesion_shares: FloatArray


@dataclass(frozen=True, slots=True)
class ScoreGrid:
    """One row's scores of the lesion images of its target, or of the normal ones.

    Attributes:
        queries: those of the target; the ones that the row lacks have no value.
        seeds: training seeds, rising, (n_seeds,).
        draws: numbers of draws, rising, (n_draws,); -1 alone for a row without support sets.
        scores: by name, (n_seeds, n_draws, n_queries); NaN where a query is not in a draw or its score is undefined.
            A query that comes several times in a run of the `classic` protocol has its mean.
    """

    queries: Queries
    seeds: IntArray
    draws: IntArray
    scores: Mapping[str, FloatArray]

    def over_seeds(self, score: str) -> FloatArray:
        """A score averaged over training seeds, (n_draws, n_queries)."""
        return mean_of_known(self.scores[score], axis=0)

    def query_means(self, score: str) -> FloatArray:
        """A score averaged over training seeds, then over draws, (n_queries,); NaN where there is none."""
        return mean_of_known(self.over_seeds(score), axis=0)

    def mean(self, score: str) -> float:
        """Mean of `query_means`, each query counting once; NaN where nothing is scored."""
        return float(mean_of_known(self.query_means(score), axis=0))

    def seed_means(self, score: str) -> dict[int, float]:
        """The same mean for each training seed alone."""
        means = mean_of_known(mean_of_known(self.scores[score], axis=1), axis=1)
        return dict(zip(self.seeds.tolist(), means.tolist(), strict=True))

    def n_scored(self, score: str) -> int:
        """How many queries have the score in some draw."""
        return int(np.count_nonzero(~np.isnan(self.query_means(score))))


def mean_of_known(values: FloatArray, axis: int) -> FloatArray:
    """The mean along an axis of what is not NaN; NaN where nothing is.

    >>> mean_of_known(np.array([[0.5, nan], [0.7, nan]]), axis=0)
    array([0.6, nan])
    """
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    means = np.full(np.shape(total), nan)
    np.divide(total, count, out=means, where=count > 0)
    return means
