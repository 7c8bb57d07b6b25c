"""Intervals, paired differences, Holm's correction and weighted scores: by hand, and what may not matter."""

from dataclasses import astuple
from math import isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.scoring.bootstrap import FloatArray, Unit
from episodes.scoring.statistics import (
    Statistic,
    crossed_bootstrap,
    holm,
    paired_difference,
    patient_weights,
    weighted_interval,
)
from tests.episodes.made_studies import literal_mean, study

# At the upper 2.5 %, by how much the t of one degree of freedom (two patients, or two draws) exceeds the normal.
STRETCH = 12.7062 / 1.95996


# Cases worked out by hand


def test_estimate_averages_draws_before_queries() -> None:
    values = np.array([[1.0, 0.0, np.nan], [0.5, np.nan, np.nan]])
    assert crossed_bootstrap(values, ["a", "b", "c"]).estimate == (0.75 + 0.0) / 2


def test_a_patient_counts_once_where_patients_are_asked_for() -> None:
    """Patient a has 0.75 and 0, patient b 0.9."""
    values = np.array([[1.0, 0.0, np.nan], [0.5, np.nan, 0.9]])
    assert crossed_bootstrap(values, ["a", "a", "b"]).estimate == pytest.approx((0.75 + 0 + 0.9) / 3)
    assert crossed_bootstrap(values, ["a", "a", "b"], unit="patient").estimate == pytest.approx((0.375 + 0.9) / 2)


@pytest.mark.parametrize("unit", ["image", "patient"])
@pytest.mark.parametrize("seed", range(3))
def test_estimates_equal_a_loop(seed: int, unit: Unit) -> None:
    (first, patients), (second, _) = study(seed), study(seed + 100)
    names, draws = sorted(set(patients)), range(len(first))
    estimate = crossed_bootstrap(first, patients, unit=unit, n_resamples=9).estimate
    assert estimate == pytest.approx(literal_mean(first, patients, names, draws, unit))
    difference = paired_difference(first, second, patients, unit=unit, n_resamples=9).interval.estimate
    assert difference == pytest.approx(literal_mean(first - second, patients, names, draws, unit))


def test_two_patients_and_one_draw_have_three_possible_means() -> None:
    """Both patients in half of the resamples, each of them twice in a quarter: 0.2, 0.5 or 0.8.

    Their standard deviation is 0.3 / sqrt(2), that of the mean of two values 0.6 apart is 0.3. The quantiles of t with
    one degree of freedom are 1.376 at 80 % and 12.706 at 97.5 %, the normal ones 0.842 and 1.960.
    """
    values = np.array([[0.2, 0.8]])
    interval = crossed_bootstrap(values, ["a", "b"])
    assert interval.estimate == 0.5
    assert interval.high - 0.5 == pytest.approx(0.3 * sqrt(2) * STRETCH, rel=0.02)
    assert 0.5 - interval.low == pytest.approx(0.3 * sqrt(2) * STRETCH, rel=0.02)
    interval = crossed_bootstrap(values, ["a", "b"], level=0.6)
    assert interval.high - 0.5 == pytest.approx(0.3 * sqrt(2) * 1.376 / 0.842, rel=0.02)
    interval = crossed_bootstrap(values, ["a", "b"], level=0.4)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_all_queries_of_a_patient_come_and_go_together() -> None:
    """Three alike images of one patient are no more evidence than one."""
    values = np.array([[0.2, 0.2, 0.2, 0.8, 0.8, 0.8]])
    interval = crossed_bootstrap(values, ["a", "a", "a", "b", "b", "b"])
    assert astuple(interval) == pytest.approx(astuple(crossed_bootstrap(values[:, ::3], ["a", "b"])))


def test_one_patient_leaves_an_interval_over_draws() -> None:
    """The draws' means are 0.2 and 0.6."""
    values = np.array([[0.1, 0.3], [0.5, 0.7]])
    interval = crossed_bootstrap(values, ["a", "a"])
    half = 0.2 * sqrt(2) * STRETCH
    assert astuple(interval) == pytest.approx((0.4, 0.4 - half, 0.4 + half), rel=0.02)


def test_draws_and_patients_both_widen_the_interval() -> None:
    """Draws 0 and 1 apart by 0.4, patients by 0.2: the extremes have one draw and one patient alone, 0.3 away.

    One in 16 resamples is at each of them. All have variance 0.1**2 / 2 + 0.2**2 / 2, and the mean twice as much.
    """
    values = np.array([[0.2, 0.4], [0.6, 0.8]])
    interval = crossed_bootstrap(values, ["a", "b"])
    half = 0.3 * sqrt(2) * STRETCH
    assert astuple(interval) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=0.02)


def test_draws_that_do_not_differ_do_not_matter() -> None:
    """Scores without any annotated image are the same in every draw."""
    values, patients = study(seed=1)
    once = crossed_bootstrap(values[:1], patients)
    assert astuple(crossed_bootstrap(np.repeat(values[:1], 3, axis=0), patients)) == pytest.approx(astuple(once))


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
    """Each query is in one draw only: patient a with draw 1 alone has nothing to average.

    Of 14 resamples with a score 5 are 0.2, 4 are 0.5 and 5 are 0.8; their variance is 0.09 * 10 / 14. That of the
    mean is 0.09 over patients and as much over draws.
    """
    values = np.array([[0.2, np.nan], [np.nan, 0.8]])
    interval = crossed_bootstrap(values, ["a", "b"])
    half = 0.3 * sqrt(0.18 / (0.09 * 10 / 14)) * STRETCH
    assert astuple(interval) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=0.03)


def test_bounds_clip_an_interval_and_nothing_else() -> None:
    values, patients = study(seed=4)
    free = crossed_bootstrap(values, patients)
    assert free.low < 0.5 < 0.7 < free.high
    assert astuple(crossed_bootstrap(values, patients, bounds=(0, 1))) == (free.estimate, free.low, free.high)
    assert astuple(crossed_bootstrap(values, patients, bounds=(0.5, 0.7))) == (free.estimate, 0.5, 0.7)
    whole, clipped = (paired_difference(values, 1 - values, patients, bounds=b) for b in (None, (-0.01, 0.01)))
    assert (clipped.p_value, clipped.interval.estimate) == (whole.p_value, whole.interval.estimate)
    assert clipped.interval.high <= 0.01


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


@pytest.mark.parametrize("unit", ["image", "patient"])
@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("shift", np.linspace(0, 0.5, 11))
def test_p_value_and_interval_say_the_same(shift: float, level: float, unit: Unit) -> None:
    (first, patients), (second, _) = study(7), study(107)
    difference = paired_difference(first + shift, second, patients, unit=unit, n_resamples=2000, level=level)
    excludes_zero = not difference.interval.low <= 0 <= difference.interval.high
    assert excludes_zero == (difference.p_value < 1 - level)


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


def test_published_numbers_are_of_as_many_resamples_and_of_seed_0() -> None:
    values, patients = study(seed=4)
    assert crossed_bootstrap(values, patients) == crossed_bootstrap(values, patients, n_resamples=10_000, seed=0)
    found = paired_difference(values, values**2, patients)
    assert found == paired_difference(values, values**2, patients, n_resamples=10_000, seed=0)
    expected = patient_weights(patients, n_resamples=2000, seed=0)
    np.testing.assert_array_equal(patient_weights(patients), expected, strict=True)


@pytest.mark.parametrize("level", [-0.5, 0, 1, 1.5])
def test_a_level_is_a_share_that_leaves_something_out_and_something_in(level: float) -> None:
    values, patients = study(seed=4)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        crossed_bootstrap(values, patients, level=level)


def test_bounds_are_apart() -> None:
    values, patients = study(seed=4)
    with pytest.raises(ValueError, match=r"bounds must be a lower and a higher value, not \(1, 1\)"):
        crossed_bootstrap(values, patients, bounds=(1, 1))


def test_scores_in_single_precision_are_averaged_in_double() -> None:
    values, patients = study(seed=4)
    single, worse = values.astype(np.float32), (0.5 * values).astype(np.float32)
    double = single.astype(np.float64)
    assert crossed_bootstrap(single, patients) == crossed_bootstrap(double, patients)
    expected = paired_difference(double, worse.astype(np.float64), patients)
    assert paired_difference(single, worse, patients) == expected
    assert paired_difference(double, worse, patients) == expected


def test_a_single_resample_is_an_interval_of_one_value() -> None:
    values, patients = study(seed=4)
    interval = crossed_bootstrap(values, patients, n_resamples=1)
    assert interval.low == interval.high


def test_the_seed_alone_decides() -> None:
    values, patients = study(seed=4)
    assert crossed_bootstrap(values, patients, seed=1) == crossed_bootstrap(values, patients, seed=1)
    assert crossed_bootstrap(values, patients, seed=1) != crossed_bootstrap(values, patients, seed=2)


# Errors


def test_impossible_arguments_are_named() -> None:
    values, patients = study(seed=0)
    with pytest.raises(ValueError, match=r"scores \(4, 12\) must be \(n_draws, n_queries\), of 3 queries"):
        crossed_bootstrap(values, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"scores \(12,\) must be"):
        crossed_bootstrap(values[0], patients)
    with pytest.raises(ValueError, match="n_resamples must be at least 1, not 0"):
        crossed_bootstrap(values, patients, n_resamples=0)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        crossed_bootstrap(values, patients, level=95)
    with pytest.raises(ValueError, match=r"bounds must be a lower and a higher value, not \(1, 0\)"):
        crossed_bootstrap(values, patients, bounds=(1, 0))
    with pytest.raises(ValueError, match="unit must be one of image, patient, not 'pixel'"):
        crossed_bootstrap(values, patients, unit="pixel")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"same shape, not \(4, 12\) and \(3, 12\)"):
        paired_difference(values, values[:3], patients)


p_values = st.lists(st.floats(0, 1), max_size=8)


def test_each_is_multiplied_by_how_many_are_left() -> None:
    """In order 0.005, 0.01, 0.03, 0.04: times 4, 3, 2 and 1; the last may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_comparison_stays_as_it_is() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_none_exceeds_1() -> None:
    assert holm([0.6, 0.7, 0.9]) == [1, 1, 1]


def test_what_could_not_be_tested_does_not_count() -> None:
    adjusted = holm([nan, 0.02, nan, 0.01])
    assert [isnan(value) for value in adjusted] == [True, False, True, False]
    assert (adjusted[1], adjusted[3]) == (0.02, 0.02)
    assert all(map(isnan, holm([nan, nan])))


@given(p_values)
def test_it_is_the_largest_product_up_to_each_rank(values: list[float]) -> None:
    """The definition: over all that are no larger, the maximum of each times how many are at least as large."""
    expected = [
        min(1.0, max(small * sum(other >= small for other in values) for small in values if small <= value))
        for value in values
    ]
    assert holm(values) == pytest.approx(expected)


@given(p_values)
def test_it_lies_between_the_raw_value_and_bonferroni_s(values: list[float]) -> None:
    for value, adjusted in zip(values, holm(values), strict=True):
        assert value <= adjusted <= min(1.0, len(values) * value)


@given(p_values)
def test_smaller_p_values_stay_smaller(values: list[float]) -> None:
    adjusted = [value for _, value in sorted(zip(values, holm(values), strict=True))]
    assert adjusted == sorted(adjusted)


@given(p_values.flatmap(lambda values: st.tuples(st.just(values), st.permutations(range(len(values))))))
def test_the_order_does_not_matter(case: tuple[list[float], list[int]]) -> None:
    values, order = case
    adjusted = holm(values)
    assert holm([values[place] for place in order]) == [adjusted[place] for place in order]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_what_is_no_p_value_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=f"p-values must lie between 0 and 1, not {value}"):
        holm([0.5, value])


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
def test_the_interval_of_a_mean_is_that_of_the_crossed_bootstrap(seed: int) -> None:
    _, patients = study(seed)
    values = np.random.default_rng(seed).random(len(patients))
    settings = {"n_resamples": 300, "seed": seed, "level": 0.9, "bounds": (0, 1)}
    found = weighted_interval(weighted_mean(values), patients, **settings)
    assert astuple(found) == pytest.approx(astuple(crossed_bootstrap(values[None], patients, **settings)))


def test_a_ratio_of_sums_is_resampled_and_left_out_as_such() -> None:
    """Either patient alone gives 0.9 or 0.1, each in a quarter of the resamples, both 100 of 200.

    The variance of these four is 0.08; that of the jackknife is (0.4**2 + 0.4**2) / 2.
    """
    interval = weighted_interval(ratio(np.array([9.0, 91.0]), np.array([10.0, 910.0])), ["a", "b"])
    assert interval.estimate == pytest.approx(100 / 920)
    symmetric = weighted_interval(ratio(np.array([90.0, 10.0]), np.array([100.0, 100.0])), ["a", "b"])
    half = 0.4 * STRETCH * sqrt(0.16 / 0.08)
    assert astuple(symmetric) == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=0.03)
    bounded = weighted_interval(ratio(np.array([90.0, 10.0]), np.array([100.0, 100.0])), ["a", "b"], bounds=(0, 1))
    assert astuple(bounded) == (0.5, 0, 1)


def test_resamples_that_leave_a_statistic_undefined_are_left_out() -> None:
    statistic = ratio(np.array([3.0, 0.0, 8.0]), np.array([10.0, 0.0, 10.0]))
    interval = weighted_interval(statistic, ["a", "b", "c"], level=0.5)
    assert interval.estimate == pytest.approx(0.55)
    assert interval.low < 0.55 < interval.high


@pytest.mark.parametrize("patients", [["a", "a", "a"], ["a"]])
def test_queries_of_one_patient_have_no_interval(patients: list[str]) -> None:
    values = np.arange(len(patients)) / 2
    interval = weighted_interval(weighted_mean(values), patients)
    assert interval.estimate == values.mean()
    assert isnan(interval.low)
    assert isnan(interval.high)


def test_a_score_that_rests_on_one_patient_of_several_has_no_interval() -> None:
    """Without the only positive patient, or the only negative one, there is no area."""
    interval = weighted_interval(ratio(np.array([0.4, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])), ["a", "b", "c"])
    assert interval.estimate == pytest.approx(0.4)
    both = weighted_interval(
        lambda w: np.where((w[:, 0] > 0) & (w[:, 1] > 0), 1.0, nan), ["a", "b"], bounds=(0, 1), n_units=1
    )
    assert (both.estimate, isnan(both.low)) == (1, True)


def test_no_queries_have_what_the_statistic_says_of_none() -> None:
    nobody = patient_weights([], n_resamples=5)
    assert (nobody.shape, nobody.dtype) == ((5, 0), np.int64)
    assert all(map(isnan, astuple(weighted_interval(ratio(np.empty(0), np.empty(0)), []))))


def test_chunks_of_weights_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, patients = study(seed=1)
    values = np.arange(len(patients)) / 3
    whole = weighted_interval(weighted_mean(values), patients, n_resamples=100)
    monkeypatch.setattr("episodes.scoring.bootstrap.CHUNK", 7 * len(patients))
    assert astuple(weighted_interval(weighted_mean(values), patients, n_resamples=100)) == pytest.approx(astuple(whole))


# Bounds


@pytest.mark.parametrize("n_patients", [2, 5, 38])
def test_patients_who_are_all_at_a_bound_leave_others_possible(n_patients: int) -> None:
    """Of 5 patients who all were found, as few as 0.025**(1/5) = 48 % of patients may be."""
    patients = [str(place) for place in range(n_patients)]
    reach = 0.025 ** (1 / n_patients)
    for draws in (1, 5):
        found = crossed_bootstrap(np.ones((draws, n_patients)), patients, bounds=(0, 1))
        assert astuple(found) == pytest.approx((1, reach, 1))
        missed = crossed_bootstrap(np.zeros((draws, n_patients)), patients, bounds=(0, 1))
        assert astuple(missed) == pytest.approx((0, 0, 1 - reach))
        worse = paired_difference(np.zeros((draws, n_patients)), np.ones((draws, n_patients)), patients, bounds=(-1, 1))
        assert astuple(worse.interval) == pytest.approx((-1, -1, 1 - 2 * reach))
        assert astuple(crossed_bootstrap(np.ones((draws, n_patients)), patients)) == (1, 1, 1)
        distances = crossed_bootstrap(np.zeros((draws, n_patients)), patients, bounds=(0, np.inf))
        assert astuple(distances) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 4), st.floats(0.02, 5), st.floats(0.02, 5))
def test_intervals_of_bounded_scores_lie_within_their_bounds(
    seed: int, n_patients: int, n_draws: int, left: float, right: float
) -> None:
    """Whatever the scores, also where most of them are 0 or 1; and the estimate lies inside."""
    rng = np.random.default_rng(seed)
    first, second = rng.beta(left, right, (2, n_draws, 12)).round(1)
    patients = [str(owner) for owner in rng.integers(n_patients, size=12)]
    found = crossed_bootstrap(first, patients, n_resamples=200, bounds=(0, 1))
    apart = paired_difference(first, second, patients, n_resamples=200, bounds=(-1, 1)).interval
    pooled = weighted_interval(ratio(first[0], np.ones(12)), patients, n_resamples=200, bounds=(0, 1))
    for interval, least in ((found, 0), (apart, -1), (pooled, 0)):
        if not isnan(interval.low):
            assert least <= interval.low <= interval.high <= 1
            assert interval.low - 1e-9 <= interval.estimate <= interval.high + 1e-9


def test_impossible_weights_are_named() -> None:
    with pytest.raises(ValueError, match="n_resamples must be at least 1, not 0"):
        patient_weights(["a", "b"], n_resamples=0)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, not 95"):
        weighted_interval(weighted_mean(np.array([0.1, 0.2])), ["a", "b"], level=95)
