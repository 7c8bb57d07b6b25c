"""Intervals of any score of weighted queries: hand-made cases, and the mean, whose resamples are known."""

from dataclasses import astuple
from math import isnan

import numpy as np
import pytest

from episodes.scoring.bootstrap import FloatArray, resample, tabulate
from episodes.scoring.statistics import Statistic, patient_weights, weighted_interval
from tests.episodes.made_studies import study


def weighted_mean(values: FloatArray) -> Statistic:
    def statistic(weights: FloatArray) -> FloatArray:
        means: FloatArray = weights @ values / weights.sum(axis=1)
        return means

    return statistic


def ratio(numerators: FloatArray, denominators: FloatArray) -> Statistic:
    def statistic(weights: FloatArray) -> FloatArray:
        bottoms = weights @ denominators
        return np.divide(weights @ numerators, bottoms, out=np.full(len(weights), np.nan), where=bottoms > 0)

    return statistic


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_equal_within_a_patient_and_hold_as_many_patients_as_there_are(seed: int) -> None:
    _, patients = study(seed)
    weights = patient_weights(patients, n_resamples=300, seed=seed)
    names, first, owners = np.unique(patients, return_index=True, return_inverse=True)
    assert weights.shape == (300, len(patients))
    np.testing.assert_array_equal(weights, weights[:, first][:, owners])
    assert (weights[:, first].sum(axis=1) == len(names)).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_a_mean_holds_the_resamples_of_the_crossed_bootstrap(seed: int) -> None:
    _, patients = study(seed)
    values = np.random.default_rng(seed).random(len(patients))
    weights = patient_weights(patients, n_resamples=300, seed=seed)
    interval = weighted_interval(weighted_mean(values), weights, level=0.9)
    means = resample(tabulate(values[None], np.unique(patients, return_inverse=True)[1]), 300, seed)
    assert astuple(interval) == pytest.approx((values.mean(), *np.quantile(means, [0.05, 0.95])))


def test_a_ratio_of_sums_is_resampled_as_such() -> None:
    """Either patient alone gives 0.9 or 0.1, each in a quarter of the resamples, both 100 of 200."""
    weights = patient_weights(["a", "b"])
    interval = weighted_interval(ratio(np.array([9.0, 19.0]), np.array([10.0, 190.0])), weights)
    assert astuple(interval) == pytest.approx((28 / 200, 0.1, 0.9))


def test_resamples_that_leave_a_statistic_undefined_are_left_out() -> None:
    weights = patient_weights(["a", "b", "c"])
    interval = weighted_interval(ratio(np.array([3.0, 0.0, 8.0]), np.array([10.0, 0.0, 10.0])), weights)
    assert astuple(interval) == pytest.approx((0.55, 0.3, 0.8))


@pytest.mark.parametrize("patients", [["a", "a", "a"], ["a"]])
def test_queries_of_one_patient_have_no_interval(patients: list[str]) -> None:
    values = np.arange(len(patients)) / 2
    interval = weighted_interval(weighted_mean(values), patient_weights(patients))
    assert interval.estimate == values.mean()
    assert isnan(interval.low)
    assert isnan(interval.high)


def test_queries_of_one_patient_among_others_have_no_interval() -> None:
    weights = patient_weights(["a", "a", "b", "c"])[:, :2]
    interval = weighted_interval(weighted_mean(np.array([0.2, 0.4])), weights)
    assert interval.estimate == pytest.approx(0.3)
    assert isnan(interval.low)


def test_no_queries_have_what_the_statistic_says_of_none() -> None:
    interval = weighted_interval(ratio(np.empty(0), np.empty(0)), patient_weights([], n_resamples=5))
    assert all(map(isnan, astuple(interval)))


def test_chunks_of_weights_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, patients = study(seed=1)
    weights, values = patient_weights(patients, n_resamples=100), np.arange(len(patients)) / 3
    whole = weighted_interval(weighted_mean(values), weights)
    monkeypatch.setattr("episodes.scoring.bootstrap.CHUNK", 7 * len(patients))
    assert astuple(weighted_interval(weighted_mean(values), weights)) == pytest.approx(astuple(whole))


def test_impossible_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="n_resamples must be at least 1, not 0"):
        patient_weights(["a", "b"], n_resamples=0)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        weighted_interval(weighted_mean(np.array([0.1, 0.2])), patient_weights(["a", "b"]), level=95)
