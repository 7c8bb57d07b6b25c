"""Intervals of scores, paired differences between methods, and p-values corrected for their number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.bootstrap import (
    FloatArray,
    IntArray,
    Unit,
    Variance,
    chunks,
    counts,
    jackknife,
    resample,
    squares,
    tabulate,
    widen,
)

Bounds = tuple[float, float]
# Of weights, (m, n_queries), one value per row, (m,); NaN where a row leaves it undefined.
Statistic = Callable[[FloatArray], FloatArray]

FEW_PATIENTS = 5
"""With fewer, 95 % intervals hold the truth less often than they say (see docs/intervals.md)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds of its interval; NaN where there is nothing to estimate or resample."""

    estimate: float
    low: float
    high: float

    def __neg__(self) -> "Interval":
        return Interval(-self.estimate, -self.high, -self.low)


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference (first minus second), its interval, and how easily no difference would show it, two-sided.

    The p-value is NaN where there is nothing to resample.
    """

    interval: Interval
    p_value: float


def crossed_bootstrap(
    values: FloatArray,
    patients: Sequence[str],
    *,
    unit: Unit = "image",
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Interval:
    """Estimate a mean score with an interval over resampled patients and draws, widened for how few there are.

    The estimate averages each query over the draws that have it, then all queries, each counting once; or a patient's
    queries first and then patients. A query without any value is left out. What there is one of is not resampled:
    with a single draw the interval is over patients alone, with a single patient over draws alone, with one of each
    there is none (NaN). Two patients or two draws hardly show how much their like differ: where they matter the
    interval is honest and useless, several times as wide as they lie apart, and may leave the possible scores unless
    these are given as bounds.

    How often a 95 % interval holds the true mean is told in docs/intervals.md.

    Args:
        values: scores, (n_draws, n_queries); NaN where a query is not in a draw or its score is undefined.
        patients: whose image each query is, (n_queries,).
        unit: what counts once in the mean, an image (a query) or a patient.
        n_resamples: how many times patients and draws are resampled.
        level: how often the interval is to hold the true mean.
        seed: of the resampling; the same arguments give the same interval.
        bounds: the least and the largest possible score, see `percentile_interval`; unlimited without.

    Raises:
        ValueError: if the counts of queries differ, or a unit, number of resamples, level or bound is impossible.

    >>> scores = np.array([[0.9, 0.8, 0.4], [0.7, np.nan, 0.2]])
    >>> interval = crossed_bootstrap(scores, ["a", "a", "b"], bounds=(0, 1))
    >>> round(interval.estimate, 3)  # the mean of 0.8, 0.8 and 0.3
    0.633
    >>> interval.low, interval.high  # two patients and two draws are next to nothing
    (0.0, 1.0)
    >>> crossed_bootstrap(scores, ["a", "a", "b"], unit="patient").estimate  # of patients with 0.8 and 0.3
    0.55
    """
    return percentile_interval(*_bootstrap(values, patients, unit, n_resamples, seed), level, bounds)


def paired_difference(
    first: FloatArray,
    second: FloatArray,
    patients: Sequence[str],
    *,
    unit: Unit = "image",
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Difference:
    """Compare two methods on the queries and draws that both have, their scores paired cell by cell.

    The p-value is the interval turned around: twice the share of widened resamples on the far side of zero, with one
    resample more counted there so that it is never 0 (Davison and Hinkley 1997, section 4.2). But for that one, it is
    below 1 - level just where the interval leaves zero out, so that it is as right as the interval is.

    The arguments are those of `crossed_bootstrap`, for the scores of both methods, (n_draws, n_queries) each, and
    for their difference.

    Raises:
        ValueError: if the shapes differ, or as in `crossed_bootstrap`.

    >>> rng = np.random.default_rng(0)
    >>> worse = rng.uniform(0.2, 0.8, size=(5, 40))
    >>> result = paired_difference(worse + 0.1, worse, [f"patient {i}" for i in range(40)])
    >>> round(result.interval.low, 3), round(result.interval.high, 3), round(result.p_value, 4)
    (0.1, 0.1, 0.0002)
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired scores have the same shape, not {first.shape} and {second.shape}")
    estimate, resamples, n_units = _bootstrap(first - second, patients, unit, n_resamples, seed)
    return Difference(percentile_interval(estimate, resamples, n_units, level, bounds), p_value(resamples))


def _bootstrap(
    values: FloatArray, patients: Sequence[str], unit: Unit, n_resamples: int, seed: int
) -> tuple[float, FloatArray, int]:
    """Return the estimate, its widened value on every resample, and how many patients (of one: draws) these are of.

    There are no resamples where there is nothing to resample.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(patients):
        raise ValueError(f"scores {values.shape} must be (n_draws, n_queries), of {len(patients)} queries")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, not {unit!r}")
    _require_resamples(n_resamples)
    present = ~np.isnan(values)
    draws, queries = present.any(axis=1), present.any(axis=0)
    values = values[draws][:, queries]
    if values.size == 0:
        return nan, np.empty(0), 0
    _, owners = np.unique(np.asarray(patients)[queries], return_inverse=True)
    table = tabulate(values, owners, unit)
    estimate = table.mean()
    if table.n_draws == table.n_patients == 1:
        return estimate, np.empty(0), 1
    n_units = table.n_patients if table.n_patients > 1 else table.n_draws
    return estimate, widen(resample(table, n_resamples, seed), estimate, jackknife(table)), n_units


def _require_resamples(n_resamples: int) -> None:
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, not {n_resamples}")


def percentile_interval(
    estimate: float, resamples: FloatArray, n_units: int, level: float, bounds: Bounds | None = None
) -> Interval:
    """Return the interval that leaves out the same share of resamples (n,) on either side.

    Bounds, the least and the largest possible score, clip it. Where all of the n units that were resampled, patients
    as a rule, have one of these, no resample shows what others may have. The interval then reaches to where n alike
    would come by chance: to `((1 - level) / 2) ** (1 / n)` of the range from the other bound (Clopper and Pearson 1934;
    a mean of m, in [0, 1], has at most a share m of ones).

    Raises:
        ValueError: if the level or the bounds are impossible.

    >>> percentile_interval(50.0, np.arange(101.0), 101, 0.9, bounds=(10, 200))
    Interval(estimate=50.0, low=10.0, high=95.0)
    >>> percentile_interval(1.0, np.ones(5), 5, 0.95, bounds=(0, 1))  # found in 5 of 5 patients
    Interval(estimate=1.0, low=0.478..., high=1.0)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    least, most = bounds or (-inf, inf)
    if not least < most:
        raise ValueError(f"bounds must be a lower and a higher value, not {bounds}")
    if not resamples.size:
        return Interval(estimate, nan, nan)
    tail = (1 - level) / 2
    low, high = (float(end) for end in np.quantile(resamples, [tail, 1 - tail]).clip(least, most))
    slack = 1e-9 * (most - least)  # means of equal scores differ in their last digits
    if isfinite(slack) and np.ptp(resamples) <= slack:
        reach = (most - least) * tail ** (1 / n_units)
        low = least + reach if low >= most - slack else low
        high = most - reach if high <= least + slack else high
    return Interval(estimate, low, high)


def p_value(resamples: FloatArray) -> float:
    """Return how easily no difference would show resamples so far on one side of zero, two-sided; NaN without any.

    >>> round(p_value(np.linspace(-1, 9, 999)), 2)
    0.2
    """
    if not resamples.size:
        return nan
    far_side = min(np.count_nonzero(resamples <= 0), np.count_nonzero(resamples >= 0))
    return float(min(1.0, 2 * (far_side + 1) / (resamples.size + 1)))


def patient_weights(patients: Sequence[str], *, n_resamples: int = 2000, seed: int = 0) -> IntArray:
    """Count each query in each resample of whole patients, for scores that are no mean over queries.

    The resamples are those of `crossed_bootstrap` with the same seed and patients, and a single draw. There are fewer
    of them unless asked for: 10,000 for each of 2000 images would take 160 MB, and as much again in every score. The
    counts are whole numbers from 0, equal for all queries of one patient, (n_resamples, n_queries).

    Raises:
        ValueError: if n_resamples is less than 1.

    >>> patient_weights(["a", "a", "b"], n_resamples=4)
    array([[0, 0, 2],
           [2, 2, 0],
           [0, 0, 2],
           [2, 2, 0]])
    """
    _require_resamples(n_resamples)
    if not len(patients):
        return np.empty((n_resamples, 0), np.int64)
    names, owners = np.unique(np.asarray(patients), return_inverse=True)
    of_patients, _ = np.random.default_rng(seed).spawn(2)
    return counts(of_patients, len(names), n_resamples)[:, owners]


def weighted_interval(
    statistic: Statistic,
    patients: Sequence[str],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    bounds: Bounds | None = None,
    n_units: int | None = None,
) -> Interval:
    """Estimate any score of weighted queries, such as a ratio of sums, with an interval over resampled patients.

    The estimate is the statistic with every query counting once. The interval is that of `crossed_bootstrap` with one
    draw, widened to the jackknife variance over patients and Student's t. Resamples in which the statistic is undefined
    (NaN) are left out. There is no interval (NaN) where it rests on a single patient: give only the queries that it
    depends on.

    Args:
        statistic: weights (m, n_queries) to one value per row, (m,); unchanged where all weights are multiplied.
        patients: whose image each query is, (n_queries,).
        n_resamples: how many times patients are resampled.
        level: how often the interval is to hold the true score.
        seed: of the resampling.
        bounds: the least and the largest possible score, see `percentile_interval`.
        n_units: how many patients count where all have a bound; all by default, but an area under the ROC curve knows
            no more than there are positive or negative ones.

    Raises:
        ValueError: if n_resamples, level or bounds are impossible.

    >>> hits, pixels = np.array([8.0, 9.0, 1.0, 7.0]), np.array([10.0, 10.0, 100.0, 10.0])
    >>> weighted_interval(lambda w: (w @ hits) / (w @ pixels), ["a", "a", "b", "c"], bounds=(0, 1))
    Interval(estimate=0.192..., low=0.0, high=1.0)
    """
    names, owners = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    weights = patient_weights(patients, n_resamples=n_resamples, seed=seed)
    estimate = float(statistic(np.ones((1, len(patients))))[0])
    if len(names) < 2:
        return percentile_interval(estimate, np.empty(0), len(names), level, bounds)
    left_out = owners != np.arange(len(names))[:, None]
    values, without_each = (
        found[~np.isnan(found)] for found in (_evaluated(statistic, rows) for rows in (weights, left_out))
    )
    if without_each.size < 2:
        return percentile_interval(estimate, np.empty(0), len(names), level, bounds)
    n_patients = without_each.size
    variance = Variance((n_patients - 1) / n_patients * squares(without_each), 0.0, 0.0, n_patients, 1)
    return percentile_interval(estimate, widen(values, estimate, variance), n_units or len(names), level, bounds)


def _evaluated(statistic: Statistic, weights: NDArray[np.generic]) -> FloatArray:
    """Apply a statistic to rows of weights, a chunk of them at a time."""
    parts = [statistic(weights[rows].astype(np.float64)) for rows in chunks(*weights.shape)]
    return np.concatenate(parts)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding among them stays below the level (Holm 1979).

    Step-down: the smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before it and
    none exceeds 1. It asks nothing of how the comparisons depend on each other, so that one reference method may be in
    all of them (Scandinavian Journal of Statistics 6(2), 65-70). One that is NaN could not be tested, does not count
    among them, and stays NaN.

    Raises:
        ValueError: if a p-value does not lie between 0 and 1.

    >>> holm([0.02, 0.01, 0.5])
    [0.04, 0.03, 0.5]
    """
    if impossible := [value for value in p_values if value < 0 or value > 1]:
        raise ValueError(f"p-values must lie between 0 and 1, not {impossible[0]}")
    adjusted = [nan] * len(p_values)
    tested = sorted((value, place) for place, value in enumerate(p_values) if not isnan(value))
    least = 0.0
    for rank, (value, place) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * value))
        adjusted[place] = least
    return adjusted
