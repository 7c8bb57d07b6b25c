"""How sure a score is that is no mean over queries, such as a ratio of sums: intervals over patients by weights."""

from collections.abc import Callable, Sequence

import numpy as np

from episodes.bootstrap import FloatArray, IntArray, counts, require_resamples, rows_at_once
from episodes.intervals import Interval, percentile_interval

# Of weights, (m, n_queries), one value per row, (m,); NaN where a row leaves it undefined.
Statistic = Callable[[FloatArray], FloatArray]


def patient_weights(patients: Sequence[str], *, n_resamples: int = 2000, seed: int = 0) -> IntArray:
    """How often each query counts in each resample of whole patients, for scores that are no mean over queries.

    The resamples are those of `crossed_bootstrap` with the same seed and patients, and a single draw. There are fewer
    of them unless asked for: 10,000 for each of 2000 images would take 160 MB, and as much again in every score.

    Args:
        patients: whose image each query is, (n_queries,).
        n_resamples: how many times patients are resampled.
        seed: of the resampling.

    Returns:
        Whole numbers from 0, equal for all queries of one patient, (n_resamples, n_queries).

    Raises:
        ValueError: if n_resamples is less than 1.

    >>> patient_weights(["a", "a", "b"], n_resamples=4)
    array([[0, 0, 2],
           [2, 2, 0],
           [0, 0, 2],
           [2, 2, 0]])
    """
    require_resamples(n_resamples)
    if not len(patients):
        return np.empty((n_resamples, 0), np.int64)
    names, owners = np.unique(np.asarray(patients), return_inverse=True)
    of_patients, _ = np.random.default_rng(seed).spawn(2)
    return counts(of_patients, len(names), n_resamples)[:, owners]


def weighted_interval(statistic: Statistic, weights: IntArray, level: float = 0.95) -> Interval:
    """Estimate any score of weighted queries, such as a ratio of sums, with a percentile interval over resamples.

    The estimate is the statistic with every query counting once. Resamples in which it is undefined (NaN) are left
    out. Where all queries are always held equally often, they belong to one patient and there is no interval
    (NaN): give only the queries that the statistic depends on.

    Unlike that of `crossed_bootstrap` this interval is not widened for few patients: of a mean over 38 patients, one
    of 95 % holds the truth 93 times in 100.

    Args:
        statistic: weights (m, n_queries) to one value per row, (m,); unchanged where all weights are multiplied.
        weights: how often each query counts in each resample, (n_resamples, n_queries); see `patient_weights`.
        level: share of the resampled values inside the interval.

    Raises:
        ValueError: if the level is impossible.

    >>> hits, pixels = np.array([8.0, 9.0, 1.0]), np.array([10.0, 10.0, 100.0])
    >>> weights = patient_weights(["a", "a", "b"])
    >>> weighted_interval(lambda w: (w @ hits) / (w @ pixels), weights)
    Interval(estimate=0.15, low=0.01, high=0.85)
    """
    n_resamples, n_queries = weights.shape
    estimate = float(statistic(np.ones((1, n_queries)))[0])
    if (weights == weights[:, :1]).all():
        return percentile_interval(estimate, np.empty(0), level)
    chunk = rows_at_once(n_queries)
    starts = range(0, n_resamples, chunk)
    values = np.concatenate([statistic(weights[start : start + chunk].astype(np.float64)) for start in starts])
    return percentile_interval(estimate, values[~np.isnan(values)], level)
