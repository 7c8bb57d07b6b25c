"""The bootstrap against a plain loop over lists, hand-made cases, and its coverage on simulated studies."""

from collections.abc import Sequence
from dataclasses import astuple
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.statistics import (
    FloatArray,
    Statistic,
    crossed_bootstrap,
    paired_difference,
    patient_weights,
    resampled_means,
    weighted_interval,
)


def study(seed: int, n_draws: int = 4, n_queries: int = 12, n_patients: int = 5) -> tuple[FloatArray, list[str]]:
    """Random scores, a fifth of them missing, one query without any; patients in no order."""
    rng = np.random.default_rng(seed)
    values = rng.random((n_draws, n_queries))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 0] = np.nan
    values[0, 1] = 0.5
    return values, [f"patient {i}" for i in rng.integers(n_patients, size=n_queries)]


def literal_mean(values: FloatArray, patients: Sequence[str], held: Sequence[str], draws: Sequence[int]) -> float:
    """The estimate on lists of patients and draws, in which both may appear several times."""
    query_means = []
    for patient in held:
        for query in range(values.shape[1]):
            scores = [values[draw, query] for draw in draws if not isnan(values[draw, query])]
            if patients[query] == patient and scores:
                query_means.append(sum(scores) / len(scores))
    return sum(query_means) / len(query_means) if query_means else np.nan


# Against a plain loop


@pytest.mark.parametrize("seed", range(5))
def test_weighted_means_equal_a_loop_over_resampled_lists(seed: int) -> None:
    values, patients = study(seed)
    names, owners = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    held = rng.integers(len(names), size=(40, len(names)))
    draws = rng.integers(len(values), size=(40, len(values)))
    means = resampled_means(
        values,
        owners,
        np.array([np.bincount(row, minlength=len(names)) for row in held]),
        np.array([np.bincount(row, minlength=len(values)) for row in draws]),
    )
    expected = [literal_mean(values, patients, names[h].tolist(), d.tolist()) for h, d in zip(held, draws, strict=True)]
    np.testing.assert_allclose(means, expected, rtol=1e-12)


def test_interval_agrees_with_a_loop_of_its_own_random_numbers() -> None:
    values, patients = study(seed=0)
    names = sorted({patient for query, patient in enumerate(patients) if query > 0})
    rng = np.random.default_rng(99)
    means = [
        literal_mean(
            values,
            patients,
            rng.choice(names, len(names)).tolist(),
            rng.integers(len(values), size=4).tolist(),
        )
        for _ in range(2000)
    ]
    interval = crossed_bootstrap(values, patients, n_resamples=20_000)
    low, high = np.quantile(means, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = study(seed=1)
    whole = crossed_bootstrap(values, patients, n_resamples=100)
    monkeypatch.setattr("episodes.statistics.CHUNK", 7 * values.shape[1])
    assert crossed_bootstrap(values, patients, n_resamples=100) == whole


# Cases worked out by hand


def test_estimate_averages_draws_before_queries() -> None:
    values = np.array([[1.0, 0.0, np.nan], [0.5, np.nan, np.nan]])
    assert crossed_bootstrap(values, ["a", "b", "c"]).estimate == (0.75 + 0.0) / 2


def test_two_patients_and_one_draw_have_three_possible_means() -> None:
    """Both patients in half of the resamples, each of them twice in a quarter: 0.2, 0.5 or 0.8."""
    values = np.array([[0.2, 0.8]])
    assert crossed_bootstrap(values, ["a", "b"]).estimate == 0.5
    assert crossed_bootstrap(values, ["a", "b"], level=0.6).low == pytest.approx(0.2)
    assert crossed_bootstrap(values, ["a", "b"], level=0.6).high == pytest.approx(0.8)
    assert crossed_bootstrap(values, ["a", "b"], level=0.4).low == pytest.approx(0.5)
    assert crossed_bootstrap(values, ["a", "b"], level=0.4).high == pytest.approx(0.5)


def test_all_queries_of_a_patient_come_and_go_together() -> None:
    """Three alike images of one patient are no more evidence than one."""
    values = np.array([[0.2, 0.2, 0.2, 0.8, 0.8, 0.8]])
    interval = crossed_bootstrap(values, ["a", "a", "a", "b", "b", "b"])
    assert (interval.low, interval.high) == pytest.approx((0.2, 0.8))


def test_one_patient_leaves_an_interval_over_draws() -> None:
    values = np.array([[0.1, 0.3], [0.5, 0.7]])
    interval = crossed_bootstrap(values, ["a", "a"])
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.2, 0.4, 0.6))


def test_draws_and_patients_both_widen_the_interval() -> None:
    """Draws 0 and 1 apart by 0.4, patients by 0.2: the extremes have one draw and one patient alone."""
    values = np.array([[0.2, 0.4], [0.6, 0.8]])
    interval = crossed_bootstrap(values, ["a", "b"])
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.2, 0.5, 0.8))


@pytest.mark.parametrize("values", [[[0.3, 0.5]], [[0.3, 0.5], [np.nan, np.nan]]])
def test_one_patient_and_one_draw_have_no_interval(values: list[list[float]]) -> None:
    interval = crossed_bootstrap(np.array(values), ["a", "a"])
    assert interval.estimate == pytest.approx(0.4)
    assert isnan(interval.low)
    assert isnan(interval.high)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (2, 0)])
def test_no_scores_have_no_estimate(shape: tuple[int, int]) -> None:
    values = np.full(shape, np.nan)
    interval = crossed_bootstrap(values, ["a"] * shape[1])
    assert all(map(isnan, (interval.estimate, interval.low, interval.high)))
    assert isnan(paired_difference(values, values, ["a"] * shape[1]).p_value)


def test_undefined_scores_are_as_good_as_absent() -> None:
    """Normal images, whose Dice is NaN, neither move the interval nor count as patients."""
    values, patients = study(seed=2)
    with_normals = np.hstack([values, np.full((len(values), 3), np.nan)])
    assert crossed_bootstrap(with_normals, [*patients, "x", "y", "z"]) == crossed_bootstrap(values, patients)


def test_a_resample_without_any_score_is_left_out() -> None:
    """Each query is in one draw only: patient a with draw 1 alone has nothing to average."""
    values = np.array([[0.2, np.nan], [np.nan, 0.8]])
    interval = crossed_bootstrap(values, ["a", "b"])
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.2, 0.5, 0.8))


# Any score of weighted queries


def weighted_mean(values: FloatArray) -> Statistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


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
def test_the_interval_of_a_mean_is_that_of_the_crossed_bootstrap(seed: int) -> None:
    _, patients = study(seed)
    values = np.random.default_rng(seed).random(len(patients))
    weights = patient_weights(patients, n_resamples=300, seed=seed)
    interval = weighted_interval(weighted_mean(values), weights, level=0.9)
    expected = crossed_bootstrap(values[None], patients, n_resamples=300, level=0.9, seed=seed)
    assert astuple(interval) == pytest.approx(astuple(expected))


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
    monkeypatch.setattr("episodes.statistics.CHUNK", 7 * len(patients))
    assert astuple(weighted_interval(weighted_mean(values), weights)) == pytest.approx(astuple(whole))


# Differences


def test_a_constant_difference_is_certain() -> None:
    values, patients = study(seed=3)
    difference = paired_difference(values + 0.125, values, patients, n_resamples=199)
    assert (difference.interval.low, difference.interval.high) == pytest.approx((0.125, 0.125))
    assert difference.p_value == pytest.approx(2 / 200)  # the least that 199 resamples can show


def test_equal_methods_differ_by_nothing() -> None:
    values, patients = study(seed=3)
    difference = paired_difference(values, values, patients)
    assert (difference.interval.estimate, difference.p_value) == (0, 1)


def test_only_cells_that_both_methods_have_are_compared() -> None:
    first = np.array([[0.5, 0.9, np.nan], [0.7, np.nan, 0.1]])
    second = np.array([[0.4, np.nan, 0.2], [0.4, 0.3, 0.1]])
    estimate = paired_difference(first, second, ["a", "b", "c"]).interval.estimate
    assert estimate == pytest.approx(((0.1 + 0.3) / 2 + 0.0) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_changing_sides_changes_the_sign_alone(seed: int) -> None:
    (first, patients), (second, _) = study(seed), study(seed + 100)
    there, back = paired_difference(first, second, patients), paired_difference(second, first, patients)
    assert there.p_value == back.p_value
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.interval.estimate == pytest.approx(-back.interval.estimate)


@pytest.mark.parametrize("shift", np.linspace(0, 0.3, 7))
def test_p_value_and_interval_say_the_same(shift: float) -> None:
    (first, patients), (second, _) = study(7), study(107)
    difference = paired_difference(first + shift, second, patients)
    excludes_zero = not difference.interval.low <= 0 <= difference.interval.high
    assert excludes_zero == (difference.p_value < 0.05)


# Properties


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(-1, 1), st.floats(0.1, 10))
def test_intervals_move_and_scale_with_the_scores(seed: int, shift: float, scale: float) -> None:
    values, patients = study(seed)
    before = crossed_bootstrap(values, patients, n_resamples=100)
    after = crossed_bootstrap(values * scale + shift, patients, n_resamples=100)
    assert after.estimate == pytest.approx(before.estimate * scale + shift)
    assert after.low == pytest.approx(before.low * scale + shift)
    assert after.high == pytest.approx(before.high * scale + shift)


def test_the_seed_alone_decides() -> None:
    values, patients = study(seed=4)
    assert crossed_bootstrap(values, patients, seed=1) == crossed_bootstrap(values, patients, seed=1)
    assert crossed_bootstrap(values, patients, seed=1) != crossed_bootstrap(values, patients, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(("draw_spread", "n_draws"), [(0.0, 1), (0.02, 5), (0.05, 5)])
def test_a_95_percent_interval_holds_the_truth_about_so_often(draw_spread: float, n_draws: int) -> None:
    """Patients, draws and single scores vary about a true mean of 0; 38 patients of 7 images each."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(38), 7)
    hits, repetitions = 0, 300
    for seed in range(repetitions):
        values = rng.normal(0, 0.2, 38)[owners] + rng.normal(0, draw_spread, (n_draws, 1))
        values = values + rng.normal(0, 0.1, (n_draws, len(owners)))
        values[rng.random(values.shape) < 0.05] = np.nan
        interval = crossed_bootstrap(values, [str(owner) for owner in owners], n_resamples=600, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert 0.90 <= hits / repetitions <= 0.99


# Errors


def test_impossible_arguments_are_named() -> None:
    values, patients = study(seed=0)
    with pytest.raises(ValueError, match=r"scores \(4, 12\) must be \(n_draws, n_queries\), of 3 queries"):
        crossed_bootstrap(values, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"scores \(12,\) must be"):
        crossed_bootstrap(values[0], patients)
    with pytest.raises(ValueError, match="n_resamples must be at least 1, not 0"):
        crossed_bootstrap(values, patients, n_resamples=0)
    with pytest.raises(ValueError, match="n_resamples must be at least 1, not 0"):
        patient_weights(patients, n_resamples=0)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        weighted_interval(weighted_mean(values[1]), patient_weights(patients), level=95)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        crossed_bootstrap(values, patients, level=95)
    with pytest.raises(ValueError, match=r"same shape, not \(4, 12\) and \(3, 12\)"):
        paired_difference(values, values[:3], patients)
