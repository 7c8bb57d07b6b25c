"""Variances against patients and draws left out of lists, the analysis of variance, and stretching worked by hand."""

from math import isnan, pi, sqrt, tan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from episodes.scoring.bootstrap import FloatArray, Unit, Variance, jackknife, tabulate, widen
from tests.episodes.made_studies import literal_mean, study


def one_patient_each(values: FloatArray) -> Variance:
    return jackknife(tabulate(values, np.arange(values.shape[1])))


def literal_variance(without_each: list[float]) -> float:
    center = sum(without_each) / len(without_each)
    squares = sum((value - center) ** 2 for value in without_each)
    return squares * (len(without_each) - 1) / len(without_each)


@pytest.mark.parametrize("unit", ["image", "patient"])
@pytest.mark.parametrize("seed", range(3))
def test_patients_and_draws_are_left_out_one_by_one(seed: int, unit: Unit) -> None:
    values, patients = study(seed)
    values, patients = values[:, 1:], patients[1:]
    names, owners = np.unique(patients, return_inverse=True)
    everyone, draws = names.tolist(), list(range(len(values)))

    def mean(held: list[str], kept: list[int]) -> float:
        return literal_mean(values, patients, held, kept, unit)

    variance = jackknife(tabulate(values, owners, unit))
    without_patient = [mean([other for other in everyone if other != name], draws) for name in everyone]
    without_draw = [mean(everyone, [other for other in draws if other != draw]) for draw in draws]
    assert variance.patients == pytest.approx(literal_variance(without_patient))
    assert variance.draws == pytest.approx(literal_variance(without_draw))
    fewer_patients = [[other for other in everyone if other != name] for name in everyone]
    without_both = [[mean(held, [d for d in draws if d != draw]) for held in fewer_patients] for draw in draws]
    pairs = np.array(without_both) - np.array(without_draw)[:, None] - np.array(without_patient) + mean(everyone, draws)
    pairs += pairs.mean() - pairs.mean(axis=0) - pairs.mean(axis=1, keepdims=True)
    share = (len(everyone) - 1) / len(everyone) * (len(draws) - 1) / len(draws)
    assert variance.together == pytest.approx(share * (pairs**2).sum())


def test_a_balanced_table_has_the_mean_squares_of_a_two_way_analysis() -> None:
    values = np.random.default_rng(0).random((4, 9))
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    variance = one_patient_each(values)
    assert variance.patients == pytest.approx(columns.var(ddof=1) / 9)
    assert variance.draws == pytest.approx(rows.var(ddof=1) / 4)
    residuals = values - rows - columns + values.mean()
    assert variance.together == pytest.approx((residuals**2).sum() / (8 * 3) / values.size)


def test_two_patients_and_two_draws_that_add_up() -> None:
    """Patients 0.2 apart and draws 0.4: half of that is the standard error; nothing is left for both together."""
    variance = one_patient_each(np.array([[0.2, 0.4], [0.6, 0.8]]))
    assert (variance.patients, variance.draws) == pytest.approx((0.01, 0.04))
    assert variance.together == pytest.approx(0, abs=1e-12)
    assert variance.total == pytest.approx(0.05)


def test_what_there_is_one_of_does_not_vary() -> None:
    one_draw, one_patient = one_patient_each(np.array([[0.2, 0.8]])), one_patient_each(np.array([[0.2], [0.8]]))
    assert (one_draw.patients, one_draw.draws, one_draw.together) == pytest.approx((0.09, 0, 0))
    assert (one_patient.patients, one_patient.draws, one_patient.together) == pytest.approx((0, 0.09, 0))


def test_pairs_without_which_nothing_is_left_show_nothing() -> None:
    variance = one_patient_each(np.array([[0.2, np.nan], [np.nan, 0.8]]))
    assert (variance.patients, variance.draws) == pytest.approx((0.09, 0.09))
    assert not isnan(variance.total)


def test_the_total_is_unbiased_where_patients_and_draws_both_matter() -> None:
    """The variance of the mean is 0.04 / 10 + 0.01 / 4 + 0.01 / 40; 4000 studies show it within 2 %."""
    rng = np.random.default_rng(0)
    totals = [
        one_patient_each(rng.normal(0, 0.2, (1, 10)) + rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 0.1, (4, 10))).total
        for _ in range(4000)
    ]
    assert np.mean(totals) == pytest.approx(0.04 / 10 + 0.01 / 4 + 0.01 / 40, rel=0.04)


# Student's t


@pytest.mark.parametrize(("patients", "draws", "freedom"), [(0.3, 0.0, 37), (0.0, 0.3, 4)])
def test_one_source_of_variation_has_its_own_student_quantiles(patients: float, draws: float, freedom: int) -> None:
    quantiles = Variance(patients, draws, 0.0, n_patients=38, n_draws=5).quantiles(501)
    np.testing.assert_allclose(quantiles, stats.t.ppf((np.arange(501) + 0.5) / 501, freedom), atol=1e-9)


def test_two_sources_have_quantiles_in_proportion() -> None:
    """With 5 draws 2.776 and with very many patients 1.960, of which one is a quarter."""
    quantile = Variance(0.3, 0.1, 0.0, n_patients=10**6, n_draws=5).quantiles(20)[-1]
    assert quantile == pytest.approx(0.75 * 1.960 + 0.25 * 2.776, abs=1e-3)


# Stretching


def test_four_resamples_of_two_patients() -> None:
    """Ranks 1/8, 3/8, 5/8 and 7/8; the t of one degree of freedom is tan(pi (share - 1/2)), the normal 1.1503.

    The resamples' standard deviation is 0.3 / sqrt(2), and becomes 0.3.
    """
    stretched = widen(np.array([0.5, 0.8, 0.2, 0.5]), 0.5, Variance(0.09, 0.0, 0.0, n_patients=2, n_draws=1))
    far = 0.3 * sqrt(2) * tan(pi * 3 / 8) / 1.1503494
    np.testing.assert_allclose(stretched, [0.5 - far, 0.5, 0.5, 0.5 + far], rtol=1e-6)


def test_normal_resamples_give_the_t_interval() -> None:
    resamples = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    stretched = widen(resamples, 0.0, Variance(0.0, 4.0, 0.0, n_patients=1, n_draws=5))
    np.testing.assert_allclose(np.quantile(stretched, [0.025, 0.975]), [-2 * 2.776, 2 * 2.776], rtol=2e-3)


def test_what_is_lopsided_stays_so() -> None:
    """The upper tail of these resamples is about three times as long as the lower one."""
    resamples = np.random.default_rng(0).exponential(size=10_000) - 1
    stretched = widen(resamples, 0.0, Variance(1.0, 0.0, 0.0, n_patients=10, n_draws=1))
    before, after = (np.quantile(values, [0.025, 0.975]) for values in (resamples, stretched))
    assert after[1] / after[0] == pytest.approx(before[1] / before[0], rel=1e-2)
    assert after[1] / before[1] == pytest.approx(stats.t.ppf(0.975, 9) / 1.96, rel=3e-2)


@pytest.mark.parametrize("variance", [0.0, 1e-40])
def test_what_is_constant_stays_so(variance: float) -> None:
    constant = np.full(9, 0.3)
    np.testing.assert_array_equal(widen(constant, 0.3, Variance(variance, 0.0, 0.0, 5, 1)), constant)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.floats(0, 1), st.integers(1, 50), st.integers(1, 9))
def test_stretched_resamples_are_as_many_in_order_and_finite(
    resamples: list[float], variance: float, n_patients: int, n_draws: int
) -> None:
    stretched = widen(np.array(resamples), 0.1, Variance(variance, variance / 2, 0.0, n_patients, n_draws))
    assert stretched.shape == (len(resamples),)
    assert np.isfinite(stretched).all()
    assert (np.diff(stretched) >= 0).all()
