"""Augmentation: a pure function of the pair and the seed that moves image and labels together."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from episodes.augment.transforms import Augmentation, ByteArray, Strength

RIGID: tuple[Strength, ...] = ("light", "strong")
CHANGING: tuple[Strength, ...] = (*RIGID, "elastic")


def pair(size: int = 96) -> tuple[ByteArray, ByteArray]:
    """A bright lesion of three kinds in the upper left of a dark, noisy image."""
    rows, columns = np.mgrid[:size, :size] / size
    inside = ((rows - 0.35) / 0.15) ** 2 + ((columns - 0.35) / 0.2) ** 2 < 1
    labels = np.where(inside, 1 + (columns > 0.35) + (columns > 0.45), 0).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-20, 20, (size, size))
    return (np.where(inside, 190, 50) + noise).astype(np.uint8), labels


def augmented(strength: Strength, seed: int) -> tuple[bytes, bytes]:
    image, labels = Augmentation(strength)(*pair(), seed=seed)
    return image.tobytes(), labels.tobytes()


def test_none_returns_the_pair_as_it_is() -> None:
    image, labels = pair()
    same = Augmentation("none")(image, labels, seed=3)
    assert same[0] is image
    assert same[1] is labels


@pytest.mark.parametrize("strength", CHANGING)
def test_the_seed_alone_decides_in_any_order(strength: Strength) -> None:
    forwards = [augmented(strength, seed) for seed in range(12)]
    backwards = [augmented(strength, seed) for seed in reversed(range(12))]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("strength", RIGID)
def test_changes_happen_independently_of_each_other(strength: Strength) -> None:
    """Not all or none: labels stay with probability 0.5 x 0.2, and are mirrored only with the same."""
    image, labels = pair()
    results = [Augmentation(strength)(image, labels, seed=seed) for seed in range(300)]
    unmoved = [np.array_equal(moved, labels) for _, moved in results]
    mirrored = [np.array_equal(moved, labels[:, ::-1]) for _, moved in results]
    unchanged = [np.array_equal(changed, image) for changed, _ in results]
    assert 0.04 < np.mean(unmoved) < 0.17
    assert 0.04 < np.mean(mirrored) < 0.17
    assert np.mean(unchanged) < 0.06


def test_other_processes_agree() -> None:
    with get_context("spawn").Pool(1) as processes:
        there = processes.starmap(partial(Augmentation("strong"), seed=15), [pair()])
    assert [(image.tobytes(), labels.tobytes()) for image, labels in there] == [augmented("strong", 15)]


def test_threads_agree() -> None:
    alone = [augmented("strong", seed) for seed in range(300)]
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-5)  # or each finishes its item before the next begins
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(partial(augmented, "strong"), range(300))) == alone
    finally:
        sys.setswitchinterval(interval)


def test_global_random_state_is_left_alone() -> None:
    augmented("strong", 0)
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that must not change
    results = augmented("strong", 1)
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(), before[1])  # noqa: NPY002
    random.seed(5)
    assert augmented("strong", 1) == results


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CHANGING), st.integers(0, 2**64 - 1))
def test_image_and_labels_move_together(strength: Strength, seed: int) -> None:
    """Whatever the gain, the lesion's brightness tells where it went."""
    image, labels = Augmentation(strength)(*pair(), seed=seed)
    lesion = labels > 0
    assert (image.dtype, labels.dtype, image.shape, labels.shape) == (np.uint8, np.uint8, (96, 96), (96, 96))
    middle = (np.median(image[lesion]) + np.median(image[~lesion])) / 2
    bright = image > middle
    assert 2 * (bright & lesion).sum() / (bright.sum() + lesion.sum()) > 0.95


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CHANGING), st.integers(0, 2**31), st.sets(st.integers(1, 3)))
def test_labels_are_never_mixed(strength: Strength, seed: int, kept: set[int]) -> None:
    """Values between labels would be other labels: 2 between 1 and 3 is malignant."""
    image, labels = pair()
    labels = np.where(np.isin(labels, list(kept)), labels, 0).astype(np.uint8)
    _, moved = Augmentation(strength)(image, labels, seed=seed)
    assert set(np.unique(moved)) == {0, *kept}


@pytest.mark.parametrize("strength", CHANGING)
def test_lesions_are_mirrored_left_to_right_but_never_upside_down(strength: Strength) -> None:
    centres = []
    for seed in range(60):
        _, labels = Augmentation(strength)(*pair(), seed=seed)
        centres.append(np.argwhere(labels > 0).mean(axis=0) / 96)
    rows, columns = np.array(centres).T
    assert (rows < 0.5).all()
    assert 15 < (columns > 0.5).sum() < 45


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RIGID), st.integers(0, 2**31))
def test_lesions_keep_their_proportions(strength: Strength, seed: int) -> None:
    """An ellipse of half axes 0.2 and 0.15 spreads 4/3 times as far one way as the other, however it lies."""
    image, labels = pair(256)
    _, moved = Augmentation(strength)(image, labels, seed=seed)
    assume(not (moved[[0, -1]].any() or moved[:, [0, -1]].any()))  # cut off by the rim, it is no ellipse any more
    narrow, wide = np.linalg.eigvalsh(np.cov(np.argwhere(moved > 0).T))
    assert (wide / narrow) ** 0.5 == pytest.approx(4 / 3, rel=0.03)


def test_strong_goes_further_than_light() -> None:
    original = (pair()[1] > 0).sum()
    spreads = []
    for strength in RIGID:
        sizes = [(Augmentation(strength)(*pair(), seed=seed)[1] > 0).sum() / original for seed in range(40)]
        spreads.append(np.std(sizes))
        assert 0.5 < min(sizes) < 1 < max(sizes) < 1.7
    assert spreads[1] > 1.5 * spreads[0] > 0


def test_only_elastic_changes_proportions() -> None:
    """Which the others keep, see above."""
    ratios = []
    for seed in range(40):
        _, moved = Augmentation("elastic")(*pair(256), seed=seed)
        if not (moved[[0, -1]].any() or moved[:, [0, -1]].any()):
            narrow, wide = np.linalg.eigvalsh(np.cov(np.argwhere(moved > 0).T))
            ratios.append((wide / narrow) ** 0.5)
    assert max(ratios) > 1.1 * 4 / 3


def test_inputs_may_be_read_only_and_stay_as_they_are() -> None:
    """The store hands out memory-mapped arrays."""
    image, labels = pair()
    image.flags.writeable = labels.flags.writeable = False
    for seed in range(10):
        Augmentation("strong")(image, labels, seed=seed)
    np.testing.assert_array_equal((image, labels), pair())


def test_wrong_arguments_are_named() -> None:
    image, labels = pair()
    with pytest.raises(ValueError, match="strength is one of none, light, strong, elastic, not 'huge'"):
        Augmentation("huge")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image must be a uint8 array \(H, W\), not float64 \(96, 96\)"):
        Augmentation("light")(image.astype(float), labels, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"label map must be a uint8 array \(H, W\), not bool \(96, 96\)"):
        Augmentation("none")(image, labels > 0, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image \(96, 96\) and label map \(95, 96\) differ in shape"):
        Augmentation("light")(image, labels[1:], seed=0)
