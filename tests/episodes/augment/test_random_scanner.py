"""Random scanners: reproducible, alike within and unlike between, and never at the cost of the lesion."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from episodes.augment.random_scanner import LEVELS, RandomScanner, blurred, rescan, zoomed
from episodes.augment.transforms import ByteArray

RECORDED = RandomScanner(
    zoom=1.0,
    smoothing=0.0,
    blur=(0.0, 0.0),
    defocus=1.0,
    sharpening=0.0,
    brightness=0.3,
    regulation=0.0,
    compensation=(0.0, 0.0),
    shading=0.0,
    speckle=0.0,
    grain=(0.0, 0.0),
    lines=0.0,
    line_spacing=0.02,
    window=(0.0, 1.0),
    gamma=1.0,
    steepness=0.0,
)
SEEDS = st.integers(0, 2**31 - 1)


def pair(shape: tuple[int, int] = (96, 96)) -> tuple[ByteArray, ByteArray]:
    """A dark lesion of three kinds in brighter, noisy tissue."""
    rows, columns = np.indices(shape) / np.reshape(shape, (2, 1, 1))
    inside = ((rows - 0.55) / 0.15) ** 2 + ((columns - 0.4) / 0.2) ** 2 < 1
    labels = np.where(inside, 1 + (columns > 0.35) + (columns > 0.45), 0).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-20, 20, shape)
    return (np.where(inside, 35, 110) + noise).astype(np.uint8), labels


def flat(grey: int, size: int = 96) -> tuple[ByteArray, ByteArray]:
    return np.full((size, size), grey, np.uint8), np.zeros((size, size), np.uint8)


def boxed(top: int, bottom: int, left: int, right: int, size: int = 96) -> ByteArray:
    labels = np.zeros((size, size), np.uint8)
    labels[top:bottom, left:right] = 2
    return labels


def scanned(scanner: int, seed: int) -> tuple[bytes, bytes]:
    image, labels = RandomScanner.draw(scanner)(*pair(), seed=seed)
    return image.tobytes(), labels.tobytes()


# Reproducible


def test_the_seeds_alone_decide_in_any_order() -> None:
    forwards = [scanned(scanner, seed) for scanner in range(5) for seed in range(3)]
    backwards = [scanned(scanner, seed) for scanner in reversed(range(5)) for seed in reversed(range(3))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 15


def test_other_processes_agree() -> None:
    with get_context("spawn").Pool(1) as processes:
        (there,) = processes.starmap(partial(RandomScanner.draw(3), seed=15), [pair()])
    assert (there[0].tobytes(), there[1].tobytes()) == scanned(3, 15)


def test_threads_agree() -> None:
    alone = [scanned(7, seed) for seed in range(100)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(partial(scanned, 7), range(100))) == alone


def test_global_random_state_is_neither_read_nor_changed() -> None:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that must not change
    result = scanned(1, 1)
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(), before[1])  # noqa: NPY002
    random.seed(5)
    assert scanned(1, 1) == result


def test_inputs_may_be_read_only_and_stay_as_they_are() -> None:
    image, labels = pair()
    image.flags.writeable = labels.flags.writeable = False
    for seed in range(10):
        RandomScanner.draw(seed)(image, labels, seed=seed)
    np.testing.assert_array_equal((image, labels), pair())


# Alike within a scanner, unlike between scanners


def test_images_of_one_scanner_share_its_grey_levels_but_not_its_speckle() -> None:
    within, between = [], []
    for index in range(40):
        (first, _), (second, _) = rescan([flat(100), flat(100)], seed=0, index=index)
        within.append(abs(float(np.median(first)) - float(np.median(second))))
        between.append(np.median(first))
        assert not np.array_equal(first, second)
    assert np.mean(within) < 4
    assert np.mean(np.abs(np.diff(between))) > 5 * np.mean(within)


def test_one_picture_tells_which_scanner_took_another() -> None:
    """By brightness, contrast and fineness alone, far more often than the one time in 30 that chance would."""

    def traits(image: ByteArray) -> list[float]:
        top, bottom = np.median(image[:48]), np.median(image[48:])
        return [top, bottom, image.std(), np.abs(np.diff(image.astype(int), axis=0)).mean()]

    other = np.ascontiguousarray(pair()[0][:, ::-1]), np.ascontiguousarray(pair()[1][:, ::-1])
    episodes = [rescan([pair(), other], seed=1, index=index) for index in range(30)]
    supports, queries = (np.array([traits(episode[place][0]) for episode in episodes]) for place in (0, 1))
    distances = np.linalg.norm((supports[:, None] - queries) / supports.std(axis=0), axis=-1)
    assert np.mean(distances.argmin(axis=0) == np.arange(30)) > 0.6


def test_scanners_range_from_nearly_the_recorded_one_to_hardly_resembling_it() -> None:
    image, labels = pair()
    same_frame = [replace(RandomScanner.draw(seed), zoom=1.0) for seed in range(200)]
    changes = [np.abs(scanner(image, labels, seed=0)[0] - image.astype(int)).mean() for scanner in same_frame]
    assert np.mean(np.array(changes) < 10) > 0.02
    assert np.mean(np.array(changes) > 30) > 0.2


def test_another_seed_or_index_is_another_scanner() -> None:
    images = {rescan([flat(100)], seed, index)[0][0].tobytes() for seed in range(3) for index in range(3)}
    assert len(images) == 9


# What stays


def test_the_recorded_scanner_changes_nothing() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    labels = np.eye(16, dtype=np.uint8)
    same, moved = RECORDED(image, labels, seed=4)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(moved, labels)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS, st.sets(st.integers(1, 3)), st.sampled_from([(96, 96), (64, 80), (192, 100)]))
def test_types_shapes_and_labels_are_kept(scanner: int, seed: int, kept: set[int], shape: tuple[int, int]) -> None:
    image, labels = pair(shape)
    labels = np.where(np.isin(labels, list(kept)), labels, 0).astype(np.uint8)
    shown, moved = RandomScanner.draw(scanner)(image, labels, seed=seed)
    assert (shown.dtype, moved.dtype, shown.shape, moved.shape) == (np.uint8, np.uint8, shape, shape)
    assert set(np.unique(moved)) == {0, *kept}


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS)
def test_the_lesion_stays_darker_than_the_tissue_around_it(scanner: int, seed: int) -> None:
    image, labels = RandomScanner.draw(scanner)(*pair(), seed=seed)
    rows, columns = np.nonzero(labels)
    beside = labels[rows.min() : rows.max()] == 0
    beside[:, : max(columns.min() - 10, 0)] = beside[:, columns.max() + 10 :] = False
    tissue = image[rows.min() : rows.max()][beside].mean()
    assert image[labels > 0].mean() + min(8, tissue / 2) < tissue  # a dark picture has no eight levels to spare


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_no_scanner_inverts_grey_levels(seed: int) -> None:
    levels = RandomScanner.draw(seed).grey_map().astype(int)
    assert levels.shape == (LEVELS,)
    assert (np.diff(levels) >= 0).all()
    assert levels[-1] - levels[0] > 150


def test_black_stays_black() -> None:
    for seed in range(20):
        image, _ = RandomScanner.draw(seed)(*flat(0), seed=seed)
        assert not image.any()


# The frame


@pytest.mark.parametrize("zoom", [0.8, 1.25, 1.5])
def test_image_and_labels_are_magnified_together(zoom: float) -> None:
    labels = boxed(20, 50, 30, 60)
    image, moved = zoomed(labels * np.uint8(100), labels, zoom)
    assert (moved > 0).sum() == pytest.approx(900 * zoom**2, rel=0.06)
    assert ((image > 100) != (moved > 0)).sum() <= 0.05 * (moved > 0).sum()


def test_the_frame_stays_at_the_probe_and_in_the_middle() -> None:
    _, moved = zoomed(*[boxed(20, 40, 38, 58)] * 2, 1.5)
    np.testing.assert_array_equal(moved, boxed(30, 60, 33, 63))
    _, moved = zoomed(*[boxed(20, 40, 38, 58)] * 2, 0.5)
    np.testing.assert_array_equal(moved, boxed(10, 20, 43, 53))


@pytest.mark.parametrize("box", [(80, 96, 40, 56), (40, 56, 0, 16), (80, 96, 80, 96), (40, 56, 84, 96)])
def test_the_frame_follows_a_lesion_that_would_leave_it(box: tuple[int, int, int, int]) -> None:
    labels = boxed(*box)
    _, moved = zoomed(labels, labels, 1.5)
    assert (moved > 0).sum() == pytest.approx(2.25 * (labels > 0).sum(), rel=0.05)


@pytest.mark.parametrize("box", [(10, 80, 10, 80), (2, 94, 2, 94), (30, 40, 0, 96)])
def test_a_large_lesion_never_fills_the_frame(box: tuple[int, int, int, int]) -> None:
    labels = boxed(*box)
    _, moved = zoomed(labels, labels, 3.0)
    assert (moved > 0).sum() >= (labels > 0).sum()
    assert (moved == 0).any()


def test_a_label_that_would_vanish_between_pixels_keeps_the_frame() -> None:
    labels = np.zeros((96, 96), np.uint8)
    labels[::2, ::2] = 1
    labels[41, 41] = 2
    kept = [np.unique(zoomed(labels, labels, zoom)[1]).tolist() for zoom in np.linspace(0.5, 0.99, 40)]
    assert kept == [[0, 1, 2]] * 40


def test_an_image_without_a_lesion_is_magnified_too() -> None:
    image = boxed(0, 10, 43, 53) * np.uint8(100)
    magnified, labels = zoomed(image, np.zeros_like(image), 2.0)
    assert not labels.any()
    assert (magnified > 100).sum() == pytest.approx(400, rel=0.1)


# Each attribute does what it says


def test_speckle_has_its_strength_and_its_grain() -> None:
    image, labels = flat(128, size=256)
    speckled, _ = replace(RECORDED, speckle=0.05, grain=(0.005, 0.01))(image, labels, seed=0)
    assert speckled.mean() == pytest.approx(128, abs=1)
    assert speckled.std() == pytest.approx(0.05 * 255, rel=0.02)
    deviations = speckled - speckled.mean()
    down, across = ((deviations * np.roll(deviations, 2, axis=axis)).mean() / deviations.var() for axis in (0, 1))
    assert 0.1 < down < across < 0.9
    other, _ = replace(RECORDED, speckle=0.05, grain=(0.005, 0.01))(image, labels, seed=1)
    assert abs(np.corrcoef(speckled.ravel(), other.ravel())[0, 1]) < 0.1


def test_compensation_is_a_curve_over_depth() -> None:
    image, _ = replace(RECORDED, compensation=(0.0, 0.2, 0.0))(*flat(100, size=65), seed=0)
    assert [int(image[row, 30]) for row in (0, 16, 32, 64)] == [100, pytest.approx(125.5, abs=1), 151, 100]
    assert (image == image[:, :1]).all()


def test_regulation_brings_images_to_one_brightness() -> None:
    scanner = replace(RECORDED, brightness=0.5, regulation=1.0)
    assert {int(np.median(scanner(*flat(grey), seed=0)[0])) for grey in (60, 128, 200)} <= {127, 128}
    half = replace(scanner, regulation=0.5)
    assert np.median(half(*flat(60), seed=0)[0]) == pytest.approx((60 + 127.5) / 2, abs=1)


def test_gamma_and_window_by_hand() -> None:
    levels = replace(RECORDED, gamma=2.0, window=(0.2, 0.8)).grey_map()
    at = [round(share * (LEVELS - 1)) for share in (0.1, 0.2, 0.5, 0.8, 0.9)]
    assert levels[at].tolist() == [0, 0, pytest.approx(255 / 4, abs=1), 255, 255]
    steep = replace(RECORDED, steepness=1.0).grey_map()[[round(share * (LEVELS - 1)) for share in (0.25, 0.75)]]
    assert steep.tolist() == [pytest.approx(255 * 5 / 32, abs=1), pytest.approx(255 * 27 / 32, abs=1)]


def test_the_point_spread_is_wider_across_and_grows_with_depth() -> None:
    def extent(profile: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        places = np.arange(len(profile)) - profile.argmax()
        return float(np.sqrt((profile * places**2).sum() / profile.sum()))

    image, labels = flat(0, size=128)
    image[10, 64] = image[118, 64] = 255
    scanner = replace(RECORDED, blur=(0.01, 0.02), defocus=1.5, window=(0.0, 0.1))
    shown = scanner(image, labels, seed=0)[0].astype(float)
    near, far = shown[:40], shown[88:]
    assert extent(near.sum(axis=1)) < extent(near.sum(axis=0))
    assert extent(near.sum(axis=0)) < extent(far.sum(axis=0))


def test_blurring_is_convolution_with_a_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    values = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    expected = gaussian_filter(values, (1.5, 3.0), mode="mirror", radius=(5, 9))
    np.testing.assert_allclose(blurred(values, 1.5, 3.0), expected, atol=1e-5)
    assert blurred(values, 0.1, 0.1) is values


def test_wrong_arguments_are_named() -> None:
    image, labels = pair()
    with pytest.raises(ValueError, match=r"image must be a uint8 array \(H, W\), not float64 \(96, 96\)"):
        RECORDED(image.astype(float), labels, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"label map must be a uint8 array \(H, W\), not bool \(96, 96\)"):
        RECORDED(image, labels > 0, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image \(96, 96\) and label map \(95, 96\) differ in shape"):
        RECORDED(image, labels[1:], seed=0)
    with pytest.raises(ValueError, match="non-negative"):
        RandomScanner.draw(-1)
