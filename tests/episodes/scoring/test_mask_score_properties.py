"""What holds of the scores of any two masks, by references that are written in another way."""

from dataclasses import astuple
from math import hypot, isnan

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.ndimage import binary_erosion

from episodes.scoring.mask_scores import BoolArray, Boundaries, Surface, score, surface_pixels

bounded = settings(max_examples=75, deadline=None)
shapes = npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
masks = shapes.flatmap(lambda shape: npst.arrays(np.bool_, shape))
pairs = shapes.flatmap(lambda shape: st.tuples(npst.arrays(np.bool_, shape), npst.arrays(np.bool_, shape)))
Pair = tuple[BoolArray, BoolArray]


def points(mask: BoolArray) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in np.argwhere(mask)}


def surface(mask: BoolArray) -> list[tuple[int, int]]:
    return sorted(points(mask & ~binary_erosion(mask)))


@bounded
@given(pairs)
def test_overlap_is_that_of_sets_of_pixels(pair: Pair) -> None:
    predicted, true = map(points, pair)
    scores = score(*pair)
    if not true:
        return
    common = len(predicted & true)
    assert scores.dice == 2 * common / (len(predicted) + len(true))
    assert scores.iou == common / len(predicted | true)
    assert scores.recall == common / len(true)
    assert scores.precision == (common / len(predicted) if predicted else 0)
    assert scores.detected == float(2 * common > len(predicted | true))


@bounded
@given(pairs, st.sampled_from([0.0, 1.0, 2**0.5, 2.0, 3.5]))
def test_surface_dice_counts_boundary_pixels_that_have_one_of_the_other_within_reach(
    pair: Pair, tolerance: float
) -> None:
    ours, theirs = map(surface, pair)
    if not (ours and theirs):
        return

    def near(place: tuple[int, int], others: list[tuple[int, int]]) -> bool:
        return min((place[0] - row) ** 2 + (place[1] - column) ** 2 for row, column in others) <= tolerance**2 + 1e-9

    agreeing = sum(near(place, theirs) for place in ours) + sum(near(place, ours) for place in theirs)
    assert np.isclose(score(*pair, tolerance=tolerance).nsd, agreeing / (len(ours) + len(theirs)))


@bounded
@given(pairs)
def test_the_rule_for_empty_masks_holds_of_any_masks(pair: Pair) -> None:
    """Undefined exactly where there is nothing to find, and never 1 for finding nothing."""
    prediction, truth = pair
    scores = score(*pair, min_area=0.0)
    lesion = astuple(scores)[:7]
    if truth.any():
        assert not any(map(isnan, lesion))
        assert isnan(scores.false_positive_area)
        assert isnan(scores.false_positive)
    else:
        assert all(map(isnan, lesion))
        assert scores.false_positive_area == prediction.mean()
        assert scores.false_positive == float(prediction.any())
    if not prediction.any() and truth.any():
        assert lesion == (0, 0, 0, 0, hypot(*truth.shape), 0, 0)


@bounded
@given(pairs)
def test_a_pixel_set_right_never_lowers_a_score_of_overlap(pair: Pair) -> None:
    prediction, truth = pair
    wrong = np.argwhere(prediction != truth)
    if not truth.any() or not len(wrong):
        return
    better = prediction.copy()
    better[tuple(wrong[0])] ^= True
    before, after = score(prediction, truth), score(better, truth)
    assert after.dice > before.dice or not (better & truth).any()
    assert after.iou >= before.iou
    assert after.recall >= before.recall


@bounded
@given(pairs, st.floats(0, 6), st.floats(0, 6))
def test_surface_dice_grows_with_its_tolerance(pair: Pair, first: float, second: float) -> None:
    less, more = sorted((first, second))
    if pair[1].any():
        assert score(*pair, tolerance=less).nsd <= score(*pair, tolerance=more).nsd


@bounded
@given(masks, st.integers(0, 2**32 - 1))
def test_only_the_masks_matter_not_their_memory(truth: BoolArray, seed: int) -> None:
    prediction = np.random.default_rng(seed).random(truth.shape) < 0.5
    plain = astuple(score(prediction, truth))
    other = astuple(score(np.asfortranarray(prediction), np.pad(truth, 2)[2:-2, 2:-2]))
    np.testing.assert_equal(plain, other)


spacings = st.sampled_from([(1.0, 1.0), (0.15, 0.15), (0.1, 0.137), (0.3, 0.1), (2.0, 0.1)])


@bounded
@given(pairs, st.lists(st.tuples(st.sampled_from([0.3, 1.0, 2.0]), spacings), max_size=4), st.booleans())
def test_boundaries_that_are_at_hand_change_no_score(
    pair: Pair, scales: list[tuple[float, tuple[float, float]]], known: bool
) -> None:
    boundaries = Boundaries(*pair, Surface(surface_pixels(pair[1])) if known else None)
    for tolerance, spacing in scales:
        alone = score(*pair, tolerance=tolerance, spacing=spacing)
        found = score(*pair, tolerance=tolerance, spacing=spacing, boundaries=boundaries)
        np.testing.assert_equal(astuple(found), astuple(alone))


@bounded
@given(masks)
def test_the_surface_is_what_an_erosion_removes(mask: BoolArray) -> None:
    assert [tuple(place) for place in surface_pixels(mask).tolist()] == surface(mask)


@bounded
@given(pairs, st.sampled_from([1.0, 0.15]))
def test_the_hausdorff_distance_is_that_of_every_pixel_with_every_other(pair: Pair, size: float) -> None:
    ours, theirs = (np.array(surface(mask), float) for mask in pair)
    if not (len(ours) and len(theirs)):
        return
    apart = size * np.sqrt(((ours[:, None] - theirs) ** 2).sum(-1))
    expected = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
    np.testing.assert_allclose(score(*pair, spacing=(size, size)).hd95, expected, rtol=1e-12)


@bounded
@given(pairs, spacings, st.tuples(*[st.integers(0, 3)] * 4))
def test_what_lies_around_the_masks_does_not_matter(
    pair: Pair, spacing: tuple[float, float], around: tuple[int, int, int, int]
) -> None:
    if not (pair[0].any() and pair[1].any()):
        return
    wider = [np.pad(mask, (around[:2], around[2:])) for mask in pair]
    np.testing.assert_equal(astuple(score(*wider, spacing=spacing)), astuple(score(*pair, spacing=spacing)))
