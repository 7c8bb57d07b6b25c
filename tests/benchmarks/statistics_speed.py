"""The crossed bootstrap, against one that resamples a table of queries and a loop over lists, in one run."""

from functools import partial
from math import isnan
from time import perf_counter

import numpy as np

from episodes.scoring.bootstrap import FloatArray, IntArray, counts, resample, tabulate
from episodes.scoring.statistics import crossed_bootstrap
from tests.benchmarks.measurements import Measurement, at_most, interleaved, measured, ratios

RESAMPLES, QUERIES, DRAWS, ROWS = 10_000, 600, 5, 20
LOOPED = 50  # resamples of the loop, which is scaled up from them
PATIENTS = (38, QUERIES)


def measure() -> list[Measurement]:
    """How long each way takes, for many images a patient and for one."""
    return [measurement for n_patients in PATIENTS for measurement in measure_patients(n_patients)]


def measure_patients(n_patients: int) -> list[Measurement]:
    values, owners = made_scores(n_patients)
    ours, plain = partial(aggregated_bootstrap, values, owners), partial(plain_bootstrap, values, owners)
    fast, slow = interleaved(ours, plain, repeats=3)
    looped = [looped_seconds(values, owners) for _ in fast]
    (rows,) = interleaved(partial(intervals_of_rows, values, owners), repeats=3, warm=False)
    key, sizes = f"statistics.{n_patients}", f"{QUERIES} queries of {n_patients} patients x {DRAWS} draws"
    return [
        measured(
            f"{key}.rows",
            f"intervals of {ROWS} rows, {RESAMPLES:,} resamples of {sizes}",
            rows,
            "s",
            wanted=at_most(5),
        ),
        measured(
            f"{key}.difference",
            "... the relative difference from tables of resamples by queries",
            [float(np.abs(ours() / plain() - 1).max())],
            "",
            wanted=at_most(1e-12),
        ),
        measured(f"{key}.tables", "... times as fast as such tables", ratios(slow, fast), "x"),
        measured(
            f"{key}.loop",
            "... times as fast as a loop over lists",
            ratios(looped, fast),
            "x",
            note=f"scaled from {LOOPED} resamples",
        ),
    ]


def made_scores(n_patients: int) -> tuple[FloatArray, IntArray]:
    """Scores of which a twentieth of the patients is missing from each draw, having lent it a support image."""
    rng = np.random.default_rng(0)
    owners = np.sort(np.arange(QUERIES) % n_patients)
    values = rng.random((DRAWS, QUERIES))
    for draw in values:
        draw[np.isin(owners, rng.choice(n_patients, max(1, n_patients // 20), replace=False))] = np.nan
    return values, owners


def aggregated_bootstrap(values: FloatArray, owners: IntArray) -> FloatArray:
    """The resampled means as `crossed_bootstrap` has them before it widens them."""
    return resample(tabulate(values, owners), RESAMPLES, seed=0)


def plain_bootstrap(values: FloatArray, owners: IntArray) -> FloatArray:
    """The resampled means by tables of resamples by queries, a chunk at a time; the same numbers as ours."""
    of_patients, of_draws = np.random.default_rng(0).spawn(2)
    present = ~np.isnan(values)
    n_patients, chunk = int(owners.max()) + 1, (1 << 20) // QUERIES
    means = []
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        patients, draws = counts(of_patients, n_patients, size), counts(of_draws, DRAWS, size).astype(np.float64)
        sums, scores = draws @ np.where(present, values, 0.0), draws @ present.astype(np.float64)
        query_means = np.divide(sums, scores, out=np.zeros_like(sums), where=scores > 0)
        held = patients[:, owners] * (scores > 0)
        means.append((held * query_means).sum(axis=1) / held.sum(axis=1))
    return np.concatenate(means)


def looped_seconds(values: FloatArray, owners: IntArray) -> float:
    """What all resamples would take as lists of patients and draws, from a few of them."""
    rng = np.random.default_rng(0)
    n_patients = int(owners.max()) + 1
    queries_of = [np.flatnonzero(owners == patient).tolist() for patient in range(n_patients)]
    scores = values.T.tolist()
    begin = perf_counter()
    for _ in range(LOOPED):
        draws = rng.integers(DRAWS, size=DRAWS).tolist()
        means = []
        for patient in rng.integers(n_patients, size=n_patients).tolist():
            for query in queries_of[patient]:
                held = [scores[query][draw] for draw in draws if not isnan(scores[query][draw])]
                means += [sum(held) / len(held)] if held else []
        sum(means) / len(means)
    return (perf_counter() - begin) * RESAMPLES / LOOPED


def intervals_of_rows(values: FloatArray, owners: IntArray) -> None:
    """Take the intervals of a whole table of methods."""
    patients = [f"patient {owner}" for owner in owners]
    for seed in range(ROWS):
        crossed_bootstrap(values, patients, n_resamples=RESAMPLES, seed=seed)
