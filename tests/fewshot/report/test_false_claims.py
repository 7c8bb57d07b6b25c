"""How often a report claims what is not so, in simulated studies of which the truth is known (docs/report.md)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.scoring.statistics import crossed_bootstrap, paired_difference
from fewshot.report.collect import answers
from fewshot.results import comparison, summary
from fewshot.results.index import Queries, ResultKey, ResultsIndex, ScoreGrid
from fewshot.results.summary import MethodResult, rank
from tests.fewshot.report.made_rows import Made, made_row

DEPTH = 10  # patients whose images a draw takes
IMAGES = 3  # of each patient


class Study(ResultsIndex):
    """A results table of one target, of which only the scores are made."""

    def __init__(self, patients: int, scores: dict[tuple[str, int], NDArray[np.float64]]) -> None:
        names = [f"p{place // IMAGES}" for place in range(patients * IMAGES)]
        codes = np.arange(len(names))
        queries = Queries([f"q{code}" for code in codes], names, ["benign"] * len(names), codes * 0.01, codes)
        self._queries = {("ours", True): queries}
        self._grids = {}
        self.rows: list[MethodResult] = []
        for (method, shot), values in scores.items():
            draws = np.arange(len(values)) if shot else np.array([-1])
            grid = ScoreGrid(queries, np.array([0]), draws, {"dice": values[None]})
            self._grids[ResultKey("ours", method, shot), True] = grid
            row = made_row("ours", Made(method, {}, "prototypes", "net"), shot, 0.5)
            self.rows.append(replace(row, n_lesion=grid.n_scored("dice")))


def left_by_draws(rng: np.random.Generator, patients: int, draws: int) -> NDArray[np.bool_]:
    """Which images each draw leaves as queries, (draws, images)."""
    left = np.ones((draws, patients), np.bool_)
    for draw in left:
        draw[rng.choice(patients, DEPTH, replace=False)] = False
    return left.repeat(IMAGES, axis=1)


def without_difference(rng: np.random.Generator, methods: int) -> Study:
    """38 patients and 5 draws; methods differ by patient, draw and image, and on average not at all."""
    patients, draws = 38, 5
    left = left_by_draws(rng, patients, draws)
    zero = (0.7 + rng.normal(0, 0.15, patients)).repeat(IMAGES) + rng.normal(0, 0.1, patients * IMAGES)
    scores = {("zero", 0): zero[None]}
    for method in range(methods):
        aside = rng.normal(0, 0.05, patients).repeat(IMAGES) + rng.normal(0, 0.01, (draws, 1))
        scores[f"method {method}", 5] = np.where(left, zero + aside + rng.normal(0, 0.05, left.shape), np.nan)
    return Study(patients, scores)


def claims(studies: Sequence[Study]) -> dict[str, float]:
    """Share of studies whose last answer claims a clear gain, and a clear lead; and gains before correction."""
    found = [answers(study, study.rows)[-1] for study in studies]
    gains = [answer.gain for answer in found if answer.gain is not None]
    return {
        "gain": sum("a clear gain" in answer.sentence for answer in found) / len(found),
        "lead": sum("a clear difference" in answer.sentence for answer in found) / len(found),
        "uncorrected": sum(gain.interval.low > 0 for gain in gains) / len(found),
    }


@pytest.mark.slow
@pytest.mark.parametrize("methods", [1, 4, 8])
def test_a_clear_gain_is_rarely_claimed_where_there_is_none(methods: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "crossed_bootstrap", partial(crossed_bootstrap, n_resamples=2))
    monkeypatch.setattr(comparison, "paired_difference", partial(paired_difference, n_resamples=1000))
    rng = np.random.default_rng(0)
    found = claims([without_difference(rng, methods) for _ in range(2000)])
    assert found["gain"] <= 0.03
    assert found["lead"] <= 0.03
    print(methods, found)  # the table's figures


@pytest.mark.parametrize(("patients", "draws"), [(12, 5), (20, 1)])
def test_a_method_that_is_better_on_every_pair_is_ranked_first(patients: int, draws: int) -> None:
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(200):
        hard = (rng.normal(0.6, 0.15, patients).repeat(IMAGES) + rng.normal(0, 0.1, patients * IMAGES)).clip(0, 0.97)
        left = left_by_draws(rng, patients, draws)
        study = Study(patients, {("zero", 0): hard[None], ("tuned", 5): np.where(left, hard + 0.03, np.nan)})
        assert rank(study, study.rows, 5).rows[0].method == "tuned"
        below += np.mean(hard) > np.mean(hard[left.any(axis=0)] + 0.03)
    assert below > 20  # as plain means have it, each row over its own images
