"""How far a mean over few patients and fewer draws may lie from the truth, and resamples made that wide.

Resamples of n things spread too little by sqrt((n - 1) / n), and are as sure of their spread as if n were large
("narrowness bias", Hesterberg 2015, The American Statistician 69(4), 371-386). Where 5 draws alone differ, a plain
percentile interval of 95 % holds the truth 83 times in 100. The mend is what Student's t does to the normal interval:
the variance comes from leaving out one patient or one draw at a time, and its own uncertainty from how many there are.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from episodes.bootstrap import FloatArray, ScoreTable, ratio


@dataclass(frozen=True, slots=True)
class Variance:
    """The variance of a mean score over patients and draws, by where it comes from.

    Attributes:
        patients: jackknife variance over patients, what patients and draws do together included; 0 for one patient.
        draws: likewise over draws.
        together: what both of them include: that one draw suits some patients more than another draw does.
        n_patients: how many there are.
        n_draws: how many there are.
    """

    patients: float
    draws: float
    together: float
    n_patients: int
    n_draws: int

    @property
    def total(self) -> float:
        """Of the mean: both, with what they share counted once; neither alone can be larger."""
        return max(self.patients, self.draws, self.patients + self.draws - self.together)

    def quantiles(self, shares: FloatArray) -> FloatArray:
        """Of an error of the mean, divided by its standard deviation as estimated.

        Student's t with one degree of freedom fewer than there are patients, and draws, averaged with their variances
        as weights (Cochran 1964, Biometrics 20(1), 191-195). One t with Satterthwaite's degrees of freedom is
        narrower: with 3 draws that differ half as much as 38 patients, it held the truth 92 times in 100, not 96.
        """
        of_patients, of_draws = (stdtrit(max(1, n - 1), shares) for n in (self.n_patients, self.n_draws))
        weighted: FloatArray = (self.patients * of_patients + self.draws * of_draws) / (self.patients + self.draws)
        return weighted


def jackknife(table: ScoreTable) -> Variance:
    """Leave out each patient, each draw, and each pair of both (Efron and Stein 1981, The Annals of Statistics 9(3)).

    For a balanced table these are the mean squares of a two-way analysis of variance, each divided by the number of
    cells, whose combination in `Variance.total` is unbiased.
    """
    n_patients, n_draws = table.n_patients, table.n_draws
    tops, bottoms = table.parts(np.vstack([np.ones(n_draws), 1 - np.eye(n_draws)]))
    by_draw = ratio(tops.sum(axis=1), bottoms.sum(axis=1))  # of all draws, then without each
    by_patient = ratio(tops.sum(axis=1, keepdims=True) - tops, bottoms.sum(axis=1, keepdims=True) - bottoms)
    # How a patient's absence changes what a draw's absence does; a pair without which nothing is left shows nothing.
    pairs = np.nan_to_num(by_patient[1:] - by_draw[1:, None] - by_patient[0] + by_draw[0])
    pairs = pairs - pairs.mean(axis=0) - pairs.mean(axis=1, keepdims=True) + pairs.mean()
    shares = (n_patients - 1) / n_patients, (n_draws - 1) / n_draws
    return Variance(
        patients=shares[0] * _squares(by_patient[0]),
        draws=shares[1] * _squares(by_draw[1:]),
        together=shares[0] * shares[1] * float((pairs**2).sum()),
        n_patients=n_patients,
        n_draws=n_draws,
    )


def widen(resamples: FloatArray, estimate: float, variance: Variance) -> FloatArray:
    """Stretch resamples away from the estimate, so that their percentiles are bounds of the right width.

    The deviations get the standard deviation of `variance`, and each is multiplied by the ratio of its quantile, by
    its rank, to that of a normal distribution. What is lopsided stays so.

    Args:
        resamples: means on resamples, (n,).
        estimate: what they scatter about.
        variance: of the estimate.

    Returns:
        As many values, in increasing order, (n,).
    """
    ordered = np.sort(resamples)
    spread = float(ordered.std())
    if spread == 0 or variance.total == 0:
        return ordered
    shares = (np.arange(ordered.size) + 0.5) / ordered.size
    normal, student = ndtri(shares), variance.quantiles(shares)
    stretch = np.divide(student, normal, out=np.ones_like(shares), where=normal != 0)
    return np.sort(estimate + (ordered - estimate) * stretch * (variance.total**0.5 / spread))


def _squares(values: FloatArray) -> float:
    """The sum of squared deviations from the mean; 0 where leaving out the only one left nothing."""
    return float(((values - values.mean()) ** 2).sum()) if len(values) > 1 else 0.0
