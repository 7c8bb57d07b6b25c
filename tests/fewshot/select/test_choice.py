"""Choosing images: against every possible choice on small sets, and what holds for any set."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from episodes.sampling.selection import By, choose, nearest_chosen

BOTH: tuple[By, ...] = ("k-medoids", "k-centres")


def unit_vectors(count: int, seed: int, n_values: int = 5) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, n_values))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def on_circle(*degrees: float) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def own_patients(count: int) -> list[str]:
    return [str(index) for index in range(count)]


def mean_distance(features: NDArray[np.float32], chosen: list[int]) -> float:
    return float(cdist(features[chosen], features).min(0).mean())


def radius(features: NDArray[np.float32], chosen: list[int]) -> float:
    return float(cdist(features[chosen], features).min(0).max())


def greedy(features: NDArray[np.float32], count: int) -> list[int]:
    """The reference of k-medoids: every image is tried in every step."""
    chosen: list[int] = []
    for _ in range(count):
        left = [index for index in range(len(features)) if index not in chosen]
        chosen.append(min(left, key=lambda index: round(mean_distance(features, [*chosen, index]), 7)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_medoids_are_those_of_trying_every_image_in_every_step(seed: int) -> None:
    features = unit_vectors(60, seed)
    assert choose(features, own_patients(60), 8) == greedy(features, 8)


def test_many_images_are_looked_at_in_blocks() -> None:
    features = unit_vectors(700, seed=0)
    assert choose(features, own_patients(700), 3) == greedy(features, 3)


def test_medoids_are_nearly_the_best_of_all_choices() -> None:
    features = unit_vectors(16, seed=1)
    best = min(mean_distance(features, list(some)) for some in combinations(range(16), 3))
    # What greedy choice brings is at least 1 - 1/e of what the best brings (Nemhauser, Wolsey and Fisher, 1978).
    found = mean_distance(features, choose(features, own_patients(16), 3))
    assert best <= found <= 2 - (1 - 1 / np.e) * (2 - best)
    assert found < 1.1 * best


def test_centres_leave_no_image_twice_as_far_as_the_best_choice_does() -> None:
    for seed in range(5):
        features = unit_vectors(14, seed)
        best = min(radius(features, list(some)) for some in combinations(range(14), 3))
        assert radius(features, choose(features, own_patients(14), 3, "k-centres")) <= 2 * best + 1e-6


def test_the_first_centre_is_the_most_central_image_and_the_next_the_farthest() -> None:
    features = on_circle(0, 5, 10, 15, 90)
    assert choose(features, own_patients(5), 2, "k-centres") == [2, 4]


def test_an_outlier_is_a_centre_before_it_is_a_medoid() -> None:
    two_clusters_and_an_outlier = on_circle(0, 1, 2, 3, 4, 60, 61, 62, 63, 64, 180)
    patients = own_patients(11)
    assert set(choose(two_clusters_and_an_outlier, patients, 2)) <= set(range(10))
    assert 10 in choose(two_clusters_and_an_outlier, patients, 2, "k-centres")


@pytest.mark.parametrize("by", BOTH)
def test_no_patient_is_chosen_again_before_all_others_are(by: By) -> None:
    features = unit_vectors(12, seed=2)
    patients = ["a"] * 8 + ["b"] * 3 + ["c"]
    order = [patients[index] for index in choose(features, patients, 12, by)]
    assert sorted(order[:3]) == ["a", "b", "c"]
    assert sorted(order[3:5]) == sorted(order[5:7]) == ["a", "b"]
    assert order[7:] == ["a"] * 5


@pytest.mark.parametrize("by", BOTH)
def test_of_equal_images_the_first_is_chosen(by: By) -> None:
    features = on_circle(0, 0, 0, 90, 90)
    assert choose(features, own_patients(5), 2, by) == [0, 3]
    assert choose(on_circle(7, 7, 7), own_patients(3), 3, by) == [0, 1, 2]


@pytest.mark.parametrize("by", BOTH)
@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 30), budget=st.integers(1, 35), n_patients=st.integers(1, 8), seed=st.integers(0, 999))
def test_choices_are_nested_distinct_and_repeatable(
    by: By, count: int, budget: int, n_patients: int, seed: int
) -> None:
    features = unit_vectors(count, seed)
    patients = [str(number) for number in np.random.default_rng(seed).integers(0, n_patients, count)]
    chosen = choose(features, patients, budget, by)
    assert len(chosen) == len(set(chosen)) == min(budget, count)
    assert chosen == choose(features, patients, budget, by)
    for fewer in range(1, len(chosen)):
        assert choose(features, patients, fewer, by) == chosen[:fewer]
    first_turn = chosen[: len(set(patients))]
    assert len({patients[index] for index in first_turn}) == len(first_turn)


def test_every_image_is_stood_for_by_the_nearest_chosen_one() -> None:
    features = unit_vectors(40, seed=3)
    chosen = choose(features, own_patients(40), 5)
    nearest, far = nearest_chosen(features, chosen)
    distances = cdist(features[chosen], features)
    np.testing.assert_array_equal(nearest, distances.argmin(0))
    np.testing.assert_allclose(far, distances.min(0), atol=1e-3)
    assert nearest[chosen].tolist() == [0, 1, 2, 3, 4]


def test_a_chosen_image_stands_for_itself_even_beside_an_equal_one() -> None:
    nearest, far = nearest_chosen(on_circle(0, 0, 0), [1, 0])
    assert nearest.tolist() == [1, 0, 0]
    assert far.tolist() == [0, 0, 0]


def test_features_and_patients_must_be_of_the_same_images() -> None:
    with pytest.raises(ValueError, match="3 images, and the patients of 2"):
        choose(on_circle(0, 1, 2), ["a", "b"], 1)
