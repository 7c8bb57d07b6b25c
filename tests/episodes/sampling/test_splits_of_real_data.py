"""Splits of the published datasets, whose look-alikes nobody made up."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from episodes.curation.near_duplicates import group_patients, look_alike_groups, thumbnail
from episodes.datasets import read_dataset
from episodes.images.decoding import read_image
from episodes.sampling.splits import find_crossings, k_folds, split_records
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Store
from tests.episodes.sampling.test_splits import unevenness

FOLDERS = {"busi": "Dataset_BUSI_with_GT", "bus_uclm": "BUS-UCLM", "bus_bra": "BUSBRA"}
PAIRS = {"busi": (200, 60), "bus_uclm": (30, 10), "bus_bra": (2, 0)}  # look-alikes and near-duplicates, at least


@pytest.fixture(scope="module", params=FOLDERS)
def store(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    records = read_dataset(request.param, shared_data / FOLDERS[request.param])
    return prepare_store(records, tmp_path_factory.mktemp("stores"), (128, 128))


def pairs_above(store: Store, images: Iterable[NDArray[np.uint8]], threshold: float) -> list[tuple[str, str]]:
    """The ids of images whose thumbnails correlate above a threshold, all of them compared with all."""
    correlations = np.corrcoef([thumbnail(image).ravel() for image in images])
    pairs = np.argwhere(np.triu(correlations > threshold, 1))
    return [(store.records[one].id, store.records[other].id) for one, other in pairs]


@pytest.mark.slow
def test_no_look_alike_is_on_two_sides_under_any_seed(store: Store) -> None:
    pairs = pairs_above(store, store.images[:], 0.9)
    assert len(pairs) >= PAIRS[store.records[0].dataset][0]
    grouped = group_patients(store.records, look_alike_groups(store.images[:], 0.9))
    for seed in range(20):
        for split in (split_records(grouped, seed=seed), *k_folds(grouped, 5, seed)):
            assert all(split.parts[one] == split.parts[other] for one, other in pairs)
            assert find_crossings(store.records, split.parts) == []


@pytest.mark.slow
def test_no_near_duplicate_of_a_store_is_on_two_sides_even_where_look_alikes_are(store: Store) -> None:
    pairs = pairs_above(store, (read_image(record.image) for record in store.records), 0.99)
    assert len(pairs) >= PAIRS[store.records[0].dataset][1]
    for seed in range(20):
        for split in (split_records(store.records, seed=seed), *k_folds(store.records, 5, seed)):
            assert all(split.parts[one] == split.parts[other] for one, other in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("n_folds", [3, 5, 10])
def test_folds_are_at_least_as_even_as_those_of_scikit_learn(store: Store, n_folds: int) -> None:
    records = group_patients(store.records, look_alike_groups(store.images[:], 0.9))
    labels, patients = [record.label for record in records], [record.patient_id for record in records]
    ours, reference = 0.0, 0.0
    for seed in range(5):
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(records, labels, patients)
        reference += unevenness(records, [[records[place] for place in test] for _, test in folds])
        ours += unevenness(records, [split.select(records, "test") for split in k_folds(records, n_folds, seed)])
    assert ours <= 1.005 * reference
