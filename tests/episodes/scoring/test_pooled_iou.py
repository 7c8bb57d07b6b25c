"""Pooled IoU against values worked out by hand from PANet's definition."""

from collections.abc import Sequence
from math import isnan

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from episodes.scoring.mask_scores import pooled_iou

NAMES = (None, "lesion", "benign", "malignant")


def pooled(*queries: tuple[ArrayLike, ArrayLike, Sequence[str]]) -> tuple[float, float]:
    """Pooled IoU of queries: class indices predicted and annotated, 0 background, and the names of classes 1 to n."""
    counts: list[tuple[int, int, int]] = []
    for prediction, truth, classes in queries:
        for index, name in enumerate([None, *classes]):
            ours, theirs = (np.asarray(one) == index for one in (prediction, truth))
            if theirs.any():
                counts.append((np.count_nonzero(ours & theirs), np.count_nonzero(ours | theirs), NAMES.index(name)))
    columns: NDArray[np.int64] = np.array(counts, np.int64).reshape(-1, 3)
    return pooled_iou(*columns.T)


def test_pixels_are_summed_before_the_division() -> None:
    """A large lesion found and a small one missed: 90 of 100 pixels, not the mean 0.5."""
    found, missed = np.zeros((2, 10, 20), dtype=int)
    found[:9, :10] = 1
    missed[:1, :10] = 1
    mean_iou, binary_iou = pooled((found, found, ["lesion"]), (np.zeros_like(missed), missed, ["lesion"]))
    assert mean_iou == pytest.approx(90 / 100)
    assert binary_iou == pytest.approx((300 / 310 + 90 / 100) / 2)


def test_classes_keep_their_names_when_ways_change_places() -> None:
    """Benign 2 of 4 pixels, malignant 1 of 1, each once as way 1 and once as way 2 or not at all."""
    mean_iou, binary_iou = pooled(
        ([[1, 1, 0, 0, 2]], [[1, 0, 0, 0, 2]], ["benign", "malignant"]),
        ([[0, 0, 0, 2, 0]], [[0, 0, 0, 2, 2]], ["malignant", "benign"]),
    )
    assert mean_iou == pytest.approx((2 / 4 + 1 / 1) / 2)
    assert binary_iou == pytest.approx((5 / 7 + 3 / 5) / 2)


def test_false_positives_count_only_where_the_class_is_present() -> None:
    mean_iou, binary_iou = pooled(([[1, 1, 0, 0]], [[1, 1, 0, 0]], ["lesion"]), ([[1] * 4], [[0] * 4], ["lesion"]))
    assert mean_iou == 1
    assert binary_iou == pytest.approx((2 / 6 + 1) / 2)


def test_what_no_image_holds_is_undefined() -> None:
    assert all(map(isnan, pooled()))
    assert all(map(isnan, pooled(([[0, 0]], [[0, 0]], ["lesion"]))))
    mean_iou, binary_iou = pooled(([[1, 0]], [[1, 1]], ["lesion"]))
    assert mean_iou == 0.5
    assert isnan(binary_iou)  # without any background
