"""One query's row: pixel counts, millimetres and calibration, by hand."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from episodes.scoring.mask_scores import score
from fewshot.results.rows import CALIBRATION, MILLIMETRES, PIXELS, SCORES, judge, working_spacing

TRUTH = np.zeros((4, 5), bool)
TRUTH[1:3, 1:3] = True
PREDICTION = np.zeros((4, 5), bool)
PREDICTION[1:3, 2:5] = True


def test_pixels_are_counted() -> None:
    found = judge(PREDICTION, TRUTH).columns()
    assert [found[name] for name in PIXELS] == [20, 4, 6, 2]
    assert found["dice"] == pytest.approx(2 * 2 / (4 + 6))


def test_the_scores_are_those_of_the_masks() -> None:
    found = judge(PREDICTION, TRUTH).columns()
    assert {name: found[name] for name in SCORES} == pytest.approx(asdict(score(PREDICTION, TRUTH)), nan_ok=True)
    assert set(found) == {*SCORES, *MILLIMETRES, *PIXELS, *CALIBRATION}


def test_millimetres_follow_the_spacing_of_rows_and_columns() -> None:
    one_right = np.roll(TRUTH, 2, axis=1)
    unknown, known = judge(one_right, TRUTH), judge(one_right, TRUTH, spacing=(1.0, 0.25))
    assert math.isnan(unknown.hd95_mm)
    assert math.isnan(unknown.nsd_mm)
    assert (unknown.scores.hd95, known.hd95_mm) == (2.0, 0.5)
    assert known.nsd_mm == 1.0  # no boundary is further than 1 mm
    assert judge(one_right, TRUTH, spacing=(1.0, 1.0)).nsd_mm < 1


def test_a_missed_lesion_is_the_diagonal_away() -> None:
    found = judge(np.zeros_like(TRUTH), TRUTH, spacing=(0.75, 0.8))
    assert found.hd95_mm == pytest.approx(5.0)  # 3 mm by 4 mm
    assert found.nsd_mm == 0


def test_probabilities_are_counted_in_tenths() -> None:
    probability = np.full(TRUTH.shape, 0.02)
    probability[PREDICTION] = 0.75
    found = judge(PREDICTION, TRUTH, probability)
    assert found.bin_counts == [14, 0, 0, 0, 0, 0, 0, 6, 0, 0]
    assert found.bin_positives == [2, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    assert found.bin_confidences == pytest.approx([14 * 0.02, *[0] * 6, 6 * 0.75, 0, 0])


def test_no_probabilities_have_no_bins() -> None:
    assert [judge(PREDICTION, TRUTH).columns()[name] for name in CALIBRATION] == [None] * 3


def test_spacing_grows_as_images_shrink() -> None:
    assert working_spacing((0.1, 0.2), (300, 100), (100, 100)) == pytest.approx((0.3, 0.2))
    assert working_spacing(None, (300, 100), (100, 100)) is None
