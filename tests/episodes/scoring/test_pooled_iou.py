"""Pooled IoU against values worked out by hand from PANet's definition."""

from math import isnan

import numpy as np
import pytest

from episodes.scoring.mask_scores import PooledIoU


def test_pixels_are_summed_before_the_division() -> None:
    """A large lesion found and a small one missed: 90 of 100 pixels, not the mean 0.5."""
    pooled = PooledIoU()
    found, missed = np.zeros((2, 10, 20), dtype=int)
    found[:9, :10] = 1
    missed[:1, :10] = 1
    pooled.add(found, found, ["lesion"])
    pooled.add(np.zeros_like(missed), missed, ["lesion"])
    assert pooled.mean_iou == pytest.approx(90 / 100)
    assert pooled.binary_iou == pytest.approx((300 / 310 + 90 / 100) / 2)


def test_classes_keep_their_names_when_ways_change_places() -> None:
    """Benign 2 of 4 pixels, malignant 1 of 1, each once as way 1 and once as way 2 or not at all."""
    pooled = PooledIoU()
    pooled.add(np.array([[1, 1, 0, 0, 2]]), np.array([[1, 0, 0, 0, 2]]), ["benign", "malignant"])
    pooled.add(np.array([[0, 0, 0, 2, 0]]), np.array([[0, 0, 0, 2, 2]]), ["malignant", "benign"])
    assert pooled.mean_iou == pytest.approx((2 / 4 + 1 / 1) / 2)
    assert pooled.binary_iou == pytest.approx((5 / 7 + 3 / 5) / 2)


def test_false_positives_count_only_where_the_class_is_present() -> None:
    pooled = PooledIoU()
    pooled.add(np.array([[1, 1, 0, 0]]), np.array([[1, 1, 0, 0]]), ["lesion"])
    pooled.add(np.array([[1, 1, 1, 1]]), np.array([[0, 0, 0, 0]]), ["lesion"])
    assert pooled.mean_iou == 1
    assert pooled.binary_iou == pytest.approx((2 / 6 + 1) / 2)


def test_nothing_counted_is_undefined() -> None:
    pooled = PooledIoU()
    assert isnan(pooled.mean_iou)
    assert isnan(pooled.binary_iou)
    pooled.add(np.zeros((2, 2), int), np.zeros((2, 2), int), ["lesion"])
    assert isnan(pooled.mean_iou)
    assert isnan(pooled.binary_iou)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"prediction \(2, 2\) and truth \(2, 3\) differ in shape"):
        PooledIoU().add(np.zeros((2, 2), int), np.zeros((2, 3), int), ["lesion"])
