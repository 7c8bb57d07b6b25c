"""Scores against scikit-learn, MONAI, a plain distance transform, and values worked out by hand."""

import warnings
from dataclasses import astuple
from math import hypot, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from episodes.scoring.mask_scores import MIN_AREA, BoolArray, Spacing, dice, score

EMPTY = np.zeros((6, 8), dtype=bool)
bounded = settings(max_examples=50, deadline=None)
masks = npst.arrays(np.bool_, st.tuples(st.integers(3, 14), st.integers(3, 14)))
pairs = npst.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=14).flatmap(
    lambda shape: st.tuples(npst.arrays(np.bool_, shape), npst.arrays(np.bool_, shape))
)


def pixels(*points: tuple[int, int], shape: tuple[int, int] = (6, 8)) -> BoolArray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(np.array(points).T)] = True
    return mask


def blobs(seed: int, shape: tuple[int, int] = (48, 40)) -> tuple[BoolArray, BoolArray]:
    """A blob, some of them at the border, and a disturbed copy of it."""
    rng = np.random.default_rng(seed)
    field, noise = (gaussian_filter(rng.normal(size=shape), 4) * 20 for _ in range(2))
    return field + 0.5 * noise > 0.8, field > 0.8


# Against independent references


@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 64)])
@pytest.mark.parametrize("seed", range(5))
def test_overlap_scores_equal_scikit_learn(density: float, shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, truth = rng.random((2, *shape)) < density
    truth.flat[0] = True
    flat = truth.ravel(), prediction.ravel()
    scores = score(prediction, truth)
    assert scores.dice == pytest.approx(f1_score(*flat, zero_division=0))
    assert scores.iou == pytest.approx(jaccard_score(*flat, zero_division=0))
    assert scores.precision == pytest.approx(precision_score(*flat, zero_division=0))
    assert scores.recall == pytest.approx(recall_score(*flat, zero_division=0))


def monai_scores(
    prediction: BoolArray, truth: BoolArray, tolerance: float, spacing: Spacing | None
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of its own imports and arguments
        import torch
        from monai.metrics import compute_hausdorff_distance, compute_surface_dice

        tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
        common = {"include_background": True, "spacing": spacing}
        distance = compute_hausdorff_distance(*tensors, percentile=95, **common)
        nsd = compute_surface_dice(*tensors, class_thresholds=[tolerance], **common)
    return distance.item(), nsd.item()


# MONAI rounds distances to single precision: 0.153 and 0.503 are none that can occur.
@pytest.mark.parametrize(("spacing", "tolerance"), [(None, 2.0), ((0.1, 0.1), 0.153), ((0.35, 0.35), 0.503)])
def test_surface_scores_equal_monai(spacing: Spacing | None, tolerance: float) -> None:
    for seed in range(12):
        prediction, truth = blobs(seed)
        distance, nsd = monai_scores(prediction, truth, tolerance, spacing)
        assert 0 < nsd < 1
        scores = score(prediction, truth, tolerance=tolerance, spacing=spacing or (1, 1))
        assert scores.hd95 == pytest.approx(distance, rel=1e-6)
        assert scores.nsd == pytest.approx(nsd)


@bounded
@given(pairs)
def test_hausdorff_equals_the_distance_transform_of_the_whole_image(
    pair: tuple[BoolArray, BoolArray],
) -> None:
    prediction, truth = pair
    if not (prediction.any() and truth.any()):
        return
    ours, theirs = (mask & ~binary_erosion(mask) for mask in pair)
    directed = distance_transform_edt(~theirs)[ours], distance_transform_edt(~ours)[theirs]
    assert score(prediction, truth).hd95 == max(np.percentile(distances, 95) for distances in directed)


# Values worked out by hand


def test_two_pixels_against_one() -> None:
    """Distances: prediction to truth 0 and 4, truth to prediction 0; the 95th percentile of (0, 4) is 3.8."""
    scores = score(pixels((2, 1), (2, 5)), pixels((2, 1)))
    assert astuple(scores)[:7] == pytest.approx((2 / 3, 1 / 2, 1 / 2, 1, 3.8, 2 / 3, 0))
    assert isnan(scores.false_positive_area)
    assert isnan(scores.false_positive)


def test_only_the_rim_is_surface() -> None:
    """A 3x3 square has 8 surface pixels, each 1 (edges) or the root of 2 (corners) from its lone centre."""
    square = np.zeros((7, 7), dtype=bool)
    square[2:5, 2:5] = True
    centre = pixels((3, 3), shape=(7, 7))
    assert score(centre, square, tolerance=1).nsd == pytest.approx((1 + 4) / 9)
    assert score(centre, square, tolerance=1.42).nsd == 1
    assert score(centre, square).hd95 == pytest.approx(2**0.5)


def rectangle(shape: tuple[int, int], rows: slice, columns: slice) -> BoolArray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize(("vertical", "horizontal"), [(1, 1), (1, 2), (2, 1)])
def test_a_shift_scores_the_same_on_a_stretched_image(vertical: int, horizontal: int) -> None:
    """A rectangle of 20 x 32 pixels, shifted to the right by 10; each has 100 pixels of surface.

    Within 1 pixel of the other's surface are 11 pixels of upper and lower side each, and one more at either end of
    the side that lies inside: 24 of 100. Beyond 5 % of the surface is as far as the shift.
    """
    truth = rectangle((48, 48), slice(8, 40), slice(8, 28))
    prediction = rectangle((48, 48), slice(8, 40), slice(18, 38))
    # Every n-th row or column, of pixels n times as large: the same rectangles on a grid of other pixels.
    stretched = [mask[vertical // 2 :: vertical, horizontal // 2 :: horizontal] for mask in (prediction, truth)]
    scores = score(*stretched, tolerance=1, spacing=(vertical, horizontal))
    assert scores.nsd == pytest.approx(0.240)
    assert scores.hd95 == pytest.approx(10)


def test_pixels_at_the_border_are_surface() -> None:
    """All of a full 3x3 image but its centre is surface."""
    full = np.ones((3, 3), dtype=bool)
    assert score(pixels((1, 1), shape=(3, 3)), full, tolerance=0).nsd == 0
    assert score(full, full, tolerance=0).nsd == 1


@pytest.mark.parametrize(("correct", "detected"), [(2, 0.0), (3, 1.0)])
def test_a_lesion_is_detected_above_half_its_union(correct: int, detected: float) -> None:
    truth = pixels(*((1, column) for column in range(4)))
    assert score(pixels(*((1, column) for column in range(correct))), truth).detected == detected


# The empty-mask rule


def test_missed_lesion_scores_zero_and_the_diagonal() -> None:
    scores = score(EMPTY, pixels((2, 1)))
    assert astuple(scores)[:7] == (0, 0, 0, 0, 10, 0, 0)  # the diagonal of 6 x 8
    assert isnan(scores.false_positive_area)
    assert isnan(scores.false_positive)
    assert score(EMPTY, pixels((2, 1)), spacing=(0.5, 0.25)).hd95 == hypot(3, 2)


def test_prediction_on_a_normal_image_is_a_false_positive_without_lesion_scores() -> None:
    scores = score(pixels((2, 1), (2, 2), (2, 3)), EMPTY)
    assert all(map(isnan, astuple(scores)[:7]))
    assert scores.false_positive_area == 3 / 48
    assert scores.false_positive == 1


def test_normal_image_left_empty_has_no_lesion_scores_and_no_false_positive() -> None:
    scores = score(EMPTY, EMPTY, min_area=0)
    assert all(map(isnan, astuple(scores)[:7]))
    assert astuple(scores)[7:] == (0, 0)


@pytest.mark.parametrize(("area", "counts"), [(2, 0.0), (3, 1.0), (4, 1.0)])
def test_a_false_positive_has_at_least_the_stated_area(area: int, counts: float) -> None:
    prediction = pixels(*((1, column) for column in range(area)))
    scores = score(prediction, EMPTY, min_area=3 / 48)
    assert (scores.false_positive, scores.false_positive_area) == (counts, area / 48)


def test_the_default_area_is_66_pixels_at_256() -> None:
    prediction, normal = np.zeros((2, 256, 256), dtype=bool)
    prediction.flat[:65] = True
    assert score(prediction, normal).false_positive == 0
    prediction.flat[:66] = True
    assert score(prediction, normal).false_positive == 1
    assert 65 / 256**2 < MIN_AREA <= 66 / 256**2


# Properties


@bounded
@given(pairs)
def test_dice_alone_is_the_dice_of_all_scores(pair: tuple[BoolArray, BoolArray]) -> None:
    np.testing.assert_equal(dice(*pair), score(*pair).dice)


@bounded
@given(masks)
def test_a_perfect_prediction(truth: BoolArray) -> None:
    truth[1, 1] = True
    assert astuple(score(truth, truth))[:7] == (1, 1, 1, 1, 0, 1, 1)


@bounded
@given(pairs)
def test_scores_are_bounded_and_symmetric(pair: tuple[BoolArray, BoolArray]) -> None:
    prediction, truth = pair
    prediction[0, 1] = truth[1, 0] = True
    there, back = score(prediction, truth), score(truth, prediction)
    assert (there.dice, there.iou, there.hd95, there.nsd) == (back.dice, back.iou, back.hd95, back.nsd)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou))
    assert all(0 <= value <= 1 for value in (there.dice, there.iou, there.precision, there.recall, there.nsd))
    assert 0 <= there.hd95 < hypot(*truth.shape)


@bounded
@given(pairs, st.integers(0, 3), st.integers(0, 3), st.integers(1, 4))
def test_boundary_scores_know_no_place_and_no_orientation(
    pair: tuple[BoolArray, BoolArray], above: int, left: int, turns: int
) -> None:
    prediction, truth = (np.pad(mask, 1) for mask in pair)
    prediction[1, 2] = truth[2, 1] = True
    moved = [np.rot90(np.pad(mask, ((above, 1), (left, 2))), turns) for mask in (prediction, truth)]
    before, after = score(prediction, truth, tolerance=1), score(*moved, tolerance=1)
    assert (before.hd95, before.nsd) == pytest.approx((after.hd95, after.nsd))
    assert before.dice == after.dice


@bounded
@given(pairs, st.sampled_from([0.1, 0.3, 0.7]))
def test_spacing_is_a_change_of_unit(pair: tuple[BoolArray, BoolArray], size: float) -> None:
    """Also where a distance equals the tolerance: 3 * 0.1 is more than 0.3 in floating point."""
    prediction, truth = pair
    prediction[0, 1] = truth[1, 0] = True
    in_pixels = score(prediction, truth, tolerance=3)
    in_units = score(prediction, truth, tolerance=3 * size, spacing=(size, size))
    assert in_units.hd95 == pytest.approx(size * in_pixels.hd95)
    assert in_units.nsd == in_pixels.nsd


@bounded
@given(pairs, st.floats(1, 40), st.booleans())
def test_oblong_pixels_leave_no_mask_empty_and_scores_within_bounds(
    pair: tuple[BoolArray, BoolArray], ratio: float, upright: bool
) -> None:
    prediction, truth = pair
    prediction[0, 1] = truth[1, 0] = True
    spacing = (0.1 * ratio, 0.1) if upright else (0.1, 0.1 * ratio)
    scores, turned = score(prediction, truth, spacing=spacing), score(prediction.T, truth.T, spacing=spacing[::-1])
    assert 0 <= scores.nsd <= 1
    assert 0 <= scores.hd95 < hypot(*(n * size for n, size in zip(truth.shape, spacing, strict=True)))
    assert (scores.nsd, scores.hd95) == pytest.approx((turned.nsd, turned.hd95))
    assert score(truth, truth, spacing=spacing) == score(truth, truth)


def lengths_that_agree(masks: tuple[BoolArray, BoolArray], tolerance: float, spacing: Spacing) -> float:
    """The share of both borders' lengths within the tolerance, as DeepMind's `surface-distance` defines it.

    Its elements are the corners of pixels, weighed by the length of the border through the four pixels around each.
    """
    height, width = spacing
    diagonal = hypot(*spacing)
    borders = []
    for mask in masks:
        around = np.pad(mask, 1)
        upper_left, upper_right, lower_left, lower_right = (
            around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:],
        )  # fmt: skip
        count = sum(part.astype(int) for part in (upper_left, upper_right, lower_left, lower_right))
        flat, upright = upper_left == upper_right, upper_left == lower_left
        straight = np.where(flat, width, np.where(upright, height, diagonal))
        length = np.select([np.isin(count, (1, 3)), count == 2], [diagonal / 2, straight], 0.0)
        places = np.argwhere(length > 0)
        borders.append((places * np.array(spacing), length[length > 0]))
    (ours, our_lengths), (theirs, their_lengths) = borders
    near = [(cdist(ours, theirs).min(axis=axis) <= tolerance + 1e-9) for axis in (1, 0)]
    agreeing = our_lengths[near[0]].sum() + their_lengths[near[1]].sum()
    return float(agreeing / (our_lengths.sum() + their_lengths.sum()))


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (60, 84)])
def test_surface_dice_of_smooth_masks_is_that_of_their_original_pixels_and_of_weighed_lengths(
    size: tuple[int, int],
) -> None:
    """Blobs on square pixels, then on stretched ones. Pixels counted as they are leave up to 0.14 between these."""
    apart = []
    for seed in range(8):
        masks = tuple(np.kron(mask, np.ones((3, 3), bool)) for mask in blobs(seed, (40, 40)))
        masks = tuple(gaussian_filter(mask.astype(float), 2) > 0.5 for mask in masks)
        stretched = tuple(
            np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)) for mask in masks
        )
        spacing = 120 / size[0], 120 / size[1]
        found = score(*stretched, tolerance=4.2, spacing=spacing).nsd
        apart.append(
            (
                found - score(*masks, tolerance=4.2).nsd,
                found - lengths_that_agree(stretched, 4.2, spacing),
            )
        )
    assert np.abs(np.mean(apart, axis=0)).max() < 0.03
    assert np.abs(apart).max() < 0.07


# Errors


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (EMPTY.astype(float), EMPTY, r"prediction must be a boolean array \(H, W\), not float64 \(6, 8\)"),
        (EMPTY, EMPTY.astype(np.uint8), r"truth must be a boolean array \(H, W\), not uint8 \(6, 8\)"),
        (EMPTY[None], EMPTY[None], r"prediction must be a boolean array \(H, W\), not bool \(1, 6, 8\)"),
        (EMPTY, EMPTY.T, r"prediction \(6, 8\) and truth \(8, 6\) differ in shape"),
    ],
)
def test_wrong_arrays_are_named(prediction: BoolArray, truth: BoolArray, message: str) -> None:
    for measure in (score, dice):
        with pytest.raises(ValueError, match=message):
            measure(prediction, truth)


def test_scoring_changes_neither_mask() -> None:
    prediction, truth = blobs(3)
    copies = prediction.copy(), truth.copy()
    score(prediction, truth)
    np.testing.assert_array_equal((prediction, truth), copies)
