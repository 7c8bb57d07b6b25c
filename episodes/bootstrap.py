"""The mean score of a benchmark's row, and the same mean on resamples of patients and draws, all at once.

A plain bootstrap holds a table of resamples by queries. Two things make it small without changing a value. Queries of
one patient that are in the same draws always come and go together, so that their sums say all. And few draws have few
resamples: 5 draws drawn with replacement give 126 different lists, for each of which every patient's part in the mean
is worked out once.
"""

from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Unit = Literal["image", "patient"]

# Numbers held at once while resampling: 8 MiB for each table of resamples by patients.
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores by draw, summed over the queries that always come and go together: of one patient, in the same draws.

    Attributes:
        sums: of the scores, (n_draws, n_groups); 0 where a group is not in a draw.
        present: whether a group is in a draw, 0 or 1, (n_draws, n_groups).
        sizes: how many queries each group has, (n_groups,).
        starts: index of each patient's first group, increasing, (n_patients,).
        unit: what counts once in the mean: an image (a query) or a patient.
    """

    sums: FloatArray
    present: FloatArray
    sizes: FloatArray
    starts: IntArray
    unit: Unit

    @property
    def n_draws(self) -> int:
        """How many draws there are."""
        return len(self.sums)

    @property
    def n_patients(self) -> int:
        """How many patients there are."""
        return len(self.starts)

    def parts(self, draws: NDArray[np.number]) -> tuple[FloatArray, FloatArray]:
        """What each patient adds to the numerator and to the denominator of the mean over weighted draws.

        A query whose draws all weigh 0 has no mean and is left out, as is a patient without any other.

        Args:
            draws: how often each draw counts, (m, n_draws).

        Returns:
            Numerators and denominators, both (m, n_patients).
        """
        weights = draws.astype(np.float64)  # whole numbers, as floats for the matrix product
        totals, counts = weights @ self.sums, weights @ self.present
        means = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)
        tops = np.add.reduceat(means, self.starts, axis=1)
        bottoms = np.add.reduceat(self.sizes * (counts > 0), self.starts, axis=1)
        if self.unit == "image":
            return tops, bottoms
        present = bottoms > 0
        return np.divide(tops, bottoms, out=np.zeros_like(tops), where=present), present.astype(np.float64)

    def means(self, patients: IntArray, draws: IntArray) -> FloatArray:
        """The mean score of each resample: queries over their draws first, then over queries (and patients).

        Args:
            patients: how often each resample holds each patient, (n_resamples, n_patients).
            draws: how often each resample holds each draw, (n_resamples, n_draws).

        Returns:
            One mean per resample, (n_resamples,); NaN where a resample holds no score at all.
        """
        different, which = np.unique(draws, axis=0, return_inverse=True)
        tops, bottoms = self.parts(different)
        top, bottom = (np.einsum("rp,rp->r", patients, part[which]) for part in (tops, bottoms))
        return ratio(top, bottom)

    def mean(self) -> float:
        """The mean score with everything counting once."""
        tops, bottoms = self.parts(np.ones((1, self.n_draws)))
        return float(ratio(tops.sum(axis=1), bottoms.sum(axis=1))[0])


def ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Numerators divided by denominators, NaN where the denominator is 0."""
    quotients = np.full(top.shape, nan)
    np.divide(top, bottom, out=quotients, where=bottom > 0)
    return quotients


def tabulate(values: FloatArray, owners: IntArray, unit: Unit = "image") -> ScoreTable:
    """Sum the scores of queries that share their patient and their draws.

    Args:
        values: scores, (n_draws, n_queries), NaN where there is none.
        owners: index of each query's patient, from 0 with none left out, (n_queries,).
        unit: what counts once in the mean.
    """
    present = ~np.isnan(values)
    keys = np.vstack([owners, present]).T  # the patient first, so that a patient's groups lie side by side
    groups, group_of = np.unique(keys, axis=0, return_inverse=True)
    sums = np.zeros((len(groups), len(values)))
    np.add.at(sums, group_of, np.where(present, values, 0.0).T)
    return ScoreTable(
        sums=sums.T.copy(),
        present=groups[:, 1:].T.astype(np.float64),
        sizes=np.bincount(group_of, minlength=len(groups)).astype(np.float64),
        starts=np.unique(groups[:, 0], return_index=True)[1],
        unit=unit,
    )


def resampled_means(
    values: FloatArray, owners: IntArray, patient_counts: IntArray, draw_counts: IntArray, unit: Unit = "image"
) -> FloatArray:
    """The estimate of `crossed_bootstrap` on each of several resamples, given as counts instead of lists.

    A query whose draws are all missing from a resample has no mean there and is left out, as it is of a list.

    Args:
        values: scores, (n_draws, n_queries), NaN where there is none.
        owners: index of each query's patient, from 0 with none left out, (n_queries,).
        patient_counts: how often each resample holds each patient, (n_resamples, n_patients).
        draw_counts: how often each resample holds each draw, (n_resamples, n_draws).
        unit: what counts once in the mean, an image (a query) or a patient.

    Returns:
        One mean per resample, (n_resamples,); NaN where a resample holds no score at all.
    """
    return tabulate(values, owners, unit).means(patient_counts, draw_counts)


def resample(table: ScoreTable, n_resamples: int, seed: int) -> FloatArray:
    """The mean score on resamples of whole patients and whole draws, both drawn anew with replacement.

    Args:
        table: with more than one patient or more than one draw; what there is one of is not resampled.
        n_resamples: how many, at least 1.
        seed: of the resampling.

    Returns:
        One mean per resample that holds a score, (at most n_resamples,).

    Raises:
        ValueError: if n_resamples is less than 1.
    """
    require_resamples(n_resamples)
    of_patients, of_draws = np.random.default_rng(seed).spawn(2)
    chunk = rows_at_once(table.n_patients)
    sizes = [min(chunk, n_resamples - start) for start in range(0, n_resamples, chunk)]
    means: FloatArray = np.concatenate(
        [
            table.means(counts(of_patients, table.n_patients, size), counts(of_draws, table.n_draws, size))
            for size in sizes
        ]
    )
    return means[~np.isnan(means)]


def counts(rng: np.random.Generator, n: int, n_resamples: int) -> IntArray:
    """How often each of `n` things is among `n` drawn with replacement, (n_resamples, n)."""
    drawn = rng.integers(n, size=(n_resamples, n)) + n * np.arange(n_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n)


def rows_at_once(width: int) -> int:
    """How many resamples to hold at once where each has `width` numbers."""
    return max(1, CHUNK // width)


def require_resamples(n_resamples: int) -> None:
    """Raise a ValueError if there is no resample."""
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, not {n_resamples}")
