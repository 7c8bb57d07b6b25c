"""How sure a mean score is: bootstrap intervals over patients and support draws together.

Scores of one method lie in a table of draws by queries. Queries of one patient resemble each other, and
all queries of one draw share its support set, so single scores are not independent. Whole patients and whole
draws are resampled instead, both at once and crossed: the "pigeonhole" bootstrap (Owen 2007, The Annals of
Applied Statistics 1(2), 386-411). It answers what *other patients and other annotated images* of the same
hospital would show. Trained weights are held fixed, so training seeds have to be shown apart.

Resamples of few patients and fewer draws spread too little; `episodes.jackknife` widens them.
"""

from collections.abc import Sequence
from math import nan
from typing import get_args

import numpy as np

from episodes.bootstrap import FloatArray, IntArray, Unit, require_resamples, resample, resampled_means, tabulate
from episodes.intervals import Bounds, Difference, Interval, p_value, percentile_interval
from episodes.jackknife import jackknife, widen
from episodes.weighted_scores import Statistic, patient_weights, weighted_interval

__all__ = [
    "Bounds",
    "Difference",
    "FloatArray",
    "IntArray",
    "Interval",
    "Statistic",
    "Unit",
    "crossed_bootstrap",
    "paired_difference",
    "patient_weights",
    "resampled_means",
    "weighted_interval",
]


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
    interval is honest and useless, several times as wide as they lie apart, and may leave the possible scores.

    How often a 95 % interval holds the true mean, beside a plain percentile interval of the same resamples (2000
    simulated studies each, standard error 0.5 %; 38 patients of 7 images and 5 draws unless said otherwise):

    ==========================================  =====  =====
    study                                       here   plain
    ==========================================  =====  =====
    one draw                                    94.0   92.8
    draws differ little                         95.5   93.6
    draws differ half as much as patients       96.0   90.6
    draws alone differ                          94.1   83.3
    1 to 30 images a patient, 15 % missing      96.2   91.6
    3 draws, differing half as much             96.1   84.9
    3 draws, differing little                   96.3   92.9
    1000 patients of 2 images                   95.9   94.9
    scores like Dice, an eighth of them 0       94.9   93.7
    ==========================================  =====  =====

    Args:
        values: scores, (n_draws, n_queries); NaN where a query is not in a draw or its score is undefined.
        patients: whose image each query is, (n_queries,).
        unit: what counts once in the mean, an image (a query) or a patient.
        n_resamples: how many times patients and draws are resampled.
        level: how often the interval is to hold the true mean.
        seed: of the resampling; the same arguments give the same interval.
        bounds: the least and the largest possible score, to which the interval is clipped; unlimited without.

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
    estimate, resamples = _bootstrap(values, patients, unit, n_resamples, seed)
    return percentile_interval(estimate, resamples, level, bounds)


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
    """Compare two methods on the queries and draws that both have.

    The p-value is the interval turned around: twice the share of widened resamples on the far side of zero, with one
    resample more counted there so that it is never 0 (Davison and Hinkley 1997, section 4.2). But for that one, it is
    below 1 - level just where the interval leaves zero out, so that it is as right as the interval is.

    Args:
        first: scores, (n_draws, n_queries), as in `crossed_bootstrap`; paired with `second` cell by cell.
        second: the other method's scores, of the same shape.
        patients: whose image each query is, (n_queries,).
        unit: what counts once in the mean, an image (a query) or a patient.
        n_resamples: how many times patients and draws are resampled.
        level: how often the interval is to hold the true difference.
        seed: of the resampling.
        bounds: the least and the largest possible difference, to which the interval is clipped; unlimited without.

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
    estimate, resamples = _bootstrap(first - second, patients, unit, n_resamples, seed)
    return Difference(percentile_interval(estimate, resamples, level, bounds), p_value(resamples))


def _bootstrap(
    values: FloatArray, patients: Sequence[str], unit: Unit, n_resamples: int, seed: int
) -> tuple[float, FloatArray]:
    """The estimate, and its widened value on every resample (none where there is nothing to resample)."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(patients):
        raise ValueError(f"scores {values.shape} must be (n_draws, n_queries), of {len(patients)} queries")
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, not {unit!r}")
    require_resamples(n_resamples)
    present = ~np.isnan(values)
    draws, queries = present.any(axis=1), present.any(axis=0)
    values = values[draws][:, queries]
    if values.size == 0:
        return nan, np.empty(0)
    _, owners = np.unique(np.asarray(patients)[queries], return_inverse=True)
    table = tabulate(values, owners, unit)
    estimate = table.mean()
    if table.n_draws == table.n_patients == 1:
        return estimate, np.empty(0)
    return estimate, widen(resample(table, n_resamples, seed), estimate, jackknife(table))
