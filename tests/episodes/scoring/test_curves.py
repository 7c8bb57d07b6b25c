"""The histogram against scikit-learn on the unbinned probabilities, hand-made cases, and what merging must keep."""

import json
from dataclasses import asdict
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve

from episodes.scoring.bootstrap import FloatArray, IntArray
from episodes.scoring.curves import ProbabilityHistogram, area_under_roc

bounded = settings(max_examples=60, deadline=None)
samples = st.integers(1, 40).flatmap(
    lambda n: st.tuples(npst.arrays(np.float64, n, elements=st.floats(0, 1)), npst.arrays(np.bool_, n))
)


def histogram(probabilities: object, truths: object, n_bins: int = 1000) -> ProbabilityHistogram:
    filled = ProbabilityHistogram(n_bins)
    filled.add(np.asarray(probabilities, np.float64), np.asarray(truths, np.bool_))
    return filled


def contents(filled: ProbabilityHistogram) -> tuple[list[int], list[int], FloatArray]:
    return filled.positives.tolist(), filled.negatives.tolist(), filled.sums


def pixels(seed: int, n: int = 5000) -> tuple[FloatArray, IntArray]:
    """Overconfident probabilities, most of them near 0 as those of background are."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(0.3, 1.5, n)
    return chances, rng.random(n) < chances**1.5


# Against scikit-learn


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_bins", [20, 1000])
def test_the_exact_area_lies_within_the_stated_error(seed: int, n_bins: int) -> None:
    chances, truths = pixels(seed)
    curve = histogram(chances, truths, n_bins).roc()
    assert abs(curve.auc - roc_auc_score(truths, chances)) <= curve.auc_error
    assert curve.auc_error < 5 / n_bins


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_equals_that_of_binned_probabilities(seed: int) -> None:
    chances, truths = pixels(seed)
    false, true, _ = roc_curve(truths, np.floor(chances * 50), drop_intermediate=False)
    curve = histogram(chances, truths, 50).roc()
    np.testing.assert_allclose(curve.false_positive_rates, false)
    np.testing.assert_allclose(curve.true_positive_rates, true)
    assert curve.auc == pytest.approx(np.trapezoid(true, false))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_bins", [10, 12, 15])
def test_reliability_equals_scikit_learn(seed: int, n_bins: int) -> None:
    """To the resolution of bins: no edge of 12 bins over [0, 1] is one of 1000, but all are of 1200."""
    chances, truths = pixels(seed)
    expected, confidences = calibration_curve(truths, chances, n_bins=n_bins)
    reliability = histogram(chances, truths, 1200 if n_bins > 10 else 1000).reliability(n_bins)
    filled = np.array(reliability.counts) > 0
    np.testing.assert_allclose(np.array(reliability.observed_frequencies)[filled], expected)
    np.testing.assert_allclose(np.array(reliability.mean_confidences)[filled], confidences)
    gaps = np.abs(expected - confidences) @ np.array(reliability.counts)[filled] / len(chances)
    assert reliability.expected_calibration_error == pytest.approx(gaps)


def test_edges_between_the_histograms_own_are_rounded_to_them() -> None:
    chances, truths = pixels(0)
    rounded, exact = (histogram(chances, truths, n_bins).reliability(15) for n_bins in (1000, 1500))
    np.testing.assert_allclose(rounded.mean_confidences, exact.mean_confidences, atol=1e-3)
    assert sum(rounded.counts) == sum(exact.counts) == len(chances)


# Cases worked out by hand


def test_a_tied_pair_counts_half() -> None:
    curve = histogram([0.2, 0.5, 0.5, 0.9], [False, False, True, True], 10).roc()
    assert curve.auc == (1 + 1 + 1 + 0.5) / 4
    assert curve.auc_error == 0.5 / 4
    assert curve.true_positive_rates == (0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1)
    assert curve.false_positive_rates == (0, 0, 0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1)


def test_reliability_of_two_bins() -> None:
    reliability = histogram([0.1, 0.3, 0.6, 0.9, 1.0], [False, True, True, True, False]).reliability(2)
    assert reliability.counts == (2, 3)
    assert reliability.observed_frequencies == pytest.approx((1 / 2, 2 / 3))
    assert reliability.mean_confidences == pytest.approx((0.2, 2.5 / 3))
    assert reliability.expected_calibration_error == pytest.approx((2 * 0.3 + 3 * 0.5 / 3) / 5)


def test_many_confident_and_right_background_pixels_are_well_calibrated() -> None:
    """A confidence of 0.0005, the middle of the first bin, would be an error five thousand times too large."""
    reliability = histogram(np.full(1000, 1e-7), np.zeros(1000, bool)).reliability()
    assert reliability.expected_calibration_error == pytest.approx(1e-7)


def test_empty_bins_have_no_frequency() -> None:
    reliability = histogram([0.05], [True]).reliability(10)
    assert (reliability.observed_frequencies[0], reliability.mean_confidences[0]) == (1, 0.05)
    assert all(map(isnan, (*reliability.observed_frequencies[1:], *reliability.mean_confidences[1:])))


@pytest.mark.parametrize("truths", [[], [True, True], [False, False]])
def test_one_side_alone_has_no_roc(truths: list[bool]) -> None:
    curve = histogram([0.5] * len(truths), truths).roc()
    assert isnan(curve.auc)
    assert isnan(curve.auc_error)
    assert curve.true_positive_rates == curve.false_positive_rates == ()


def test_nothing_has_no_calibration_error() -> None:
    reliability = ProbabilityHistogram().reliability()
    assert isnan(reliability.expected_calibration_error)
    assert sum(reliability.counts) == 0


def test_weighted_areas_are_those_of_repeated_scores() -> None:
    scores, truths = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 1, 0, 1])
    positives, negatives = np.array([[0, 1, 1], [0, 3, 1], [0, 0, 0]]), np.array([[1, 1, 0], [2, 1, 0], [1, 1, 0]])
    areas = area_under_roc(positives, negatives)
    repeated = np.repeat(scores, [2, 3, 1, 1]), np.repeat(truths, [2, 3, 1, 1])
    np.testing.assert_allclose(areas, [roc_auc_score(truths, scores), roc_auc_score(*repeated[::-1]), nan])


# Properties


@bounded
@given(st.lists(samples, min_size=1, max_size=4))
def test_parts_added_one_by_one_equal_all_at_once(parts: list[tuple[FloatArray, IntArray]]) -> None:
    streamed = ProbabilityHistogram()
    for chances, truths in parts:
        streamed.add(chances, truths)
    whole = histogram(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    assert contents(streamed)[:2] == contents(whole)[:2]
    np.testing.assert_allclose(streamed.sums, whole.sums)


@bounded
@given(samples)
def test_areas_of_a_class_and_of_its_complement_add_up_to_one(sample: tuple[FloatArray, IntArray]) -> None:
    chances, truths = sample
    area, swapped = histogram(chances, truths).roc().auc, histogram(chances, ~truths).roc().auc
    assert (isnan(area) and isnan(swapped)) or area + swapped == pytest.approx(1)


@bounded
@given(samples)
def test_the_complements_probability_has_the_same_area(sample: tuple[FloatArray, IntArray]) -> None:
    """1 - p of not being positive; a probability on a bin's edge changes sides, hence within the stated errors."""
    chances, truths = sample
    there, back = histogram(chances, truths).roc(), histogram(1 - chances, ~truths).roc()
    if not isnan(there.auc):
        assert abs(there.auc - back.auc) <= there.auc_error + back.auc_error + 1e-12


@bounded
@given(samples)
def test_no_bin_is_further_from_the_truth_than_one(sample: tuple[FloatArray, IntArray]) -> None:
    reliability = histogram(*sample).reliability()
    assert sum(reliability.counts) == len(sample[0])
    assert 0 <= reliability.expected_calibration_error <= 1


def test_shape_and_precision_of_the_arrays_do_not_matter() -> None:
    chances, truths = pixels(1, 600)
    single, cube = chances.astype(np.float32), (4, 10, 15)
    shaped = ProbabilityHistogram()
    shaped.add(single.reshape(cube), truths.reshape(cube))
    assert contents(shaped)[:2] == contents(histogram(single, truths))[:2]


def test_results_go_into_json() -> None:
    filled = histogram(*pixels(2))
    for result in (filled.roc(), filled.reliability()):
        assert json.loads(json.dumps(asdict(result), allow_nan=False)) == json.loads(json.dumps(asdict(result)))


# Rounding and errors


def test_rounding_out_of_the_range_is_forgiven() -> None:
    filled = histogram([1 + 1e-7, -1e-7], [True, False])
    assert (filled.positives[-1], filled.negatives[0]) == (1, 1)
    assert filled.sums.sum() == 1


@pytest.mark.parametrize("wrong", [1.5, -0.2, nan])
def test_what_is_no_probability_is_refused_and_not_counted(wrong: float) -> None:
    filled = ProbabilityHistogram()
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        filled.add(np.array([0.5, wrong]), np.array([True, False]))
    assert filled.positives.sum() == 0


def test_impossible_arguments_are_named() -> None:
    filled = ProbabilityHistogram()
    with pytest.raises(ValueError, match=r"truths must be boolean \(2,\), not int64 \(2,\)"):
        filled.add(np.array([0.5, 0.5]), np.array([0, 1]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"truths must be boolean \(2,\), not bool \(1,\)"):
        filled.add(np.array([0.5, 0.5]), np.array([True]))
    with pytest.raises(ValueError, match="n_bins must be at least 1, not 0"):
        ProbabilityHistogram(0)
    with pytest.raises(ValueError, match="between 1 and the histogram's 10, not 11"):
        ProbabilityHistogram(10).reliability(11)
