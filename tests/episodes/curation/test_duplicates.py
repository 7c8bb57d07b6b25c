from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from episodes.curation.near_duplicates import (
    NEAR_DUPLICATE,
    duplicate_groups,
    group_patients,
    look_alike_groups,
    thumbnail,
)
from episodes.datasets import read_dataset
from episodes.images.decoding import read_image
from episodes.records import Record
from tests.episodes.made_records import any_records, made_record


def noise(count: int, side: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_thumbnails_are_area_averages() -> None:
    image = noise(1, 96)[0]
    blocks = image.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(thumbnail(image) - blocks).max() <= 1  # rounded once per axis
    assert thumbnail(noise(1, 100)[0][:70]).shape == (48, 48)
    np.testing.assert_array_equal(thumbnail(image[:48, :48]), image[:48, :48])


def test_groups_are_the_components_of_strong_correlation() -> None:
    images = noise(8, 64)
    images[3] = images[1] // 3 + 20  # another gain and offset
    images[6] = 255 - images[1]  # a correlation of -1
    images[7] = images[0]
    assert duplicate_groups(images) == [[0, 7], [1, 3]]


def test_duplicates_of_duplicates_are_one_group() -> None:
    def pair_correlation(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    images = noise(3).astype(float)
    a, step, other = images
    chain = np.stack([a, a + 0.12 * step, a + 0.24 * step, other]).clip(0, 330) / 330 * 255
    chain = chain.astype(np.uint8)
    assert pair_correlation(chain[0], chain[1]) > 0.99 > pair_correlation(chain[0], chain[2])
    assert duplicate_groups(chain) == [[0, 1, 2]]


def brute_force(images: NDArray[np.uint8], threshold: float) -> list[list[int]]:
    """Every pair correlated by NumPy, and groups found by walking from image to image."""
    correlation = np.corrcoef(np.stack([thumbnail(image) for image in images]).reshape(len(images), -1))
    groups, rest = [], set(range(len(images)))
    while rest:
        group, found = set[int](), {min(rest)}
        while found:
            group |= found
            found = {j for i in found for j in rest - group if correlation[i, j] > threshold}
        rest -= group
        groups.append(sorted(group))
    return [group for group in groups if len(group) > 1]


def is_clear(images: NDArray[np.uint8], threshold: float) -> bool:
    """Whether no pair lies so near the threshold that float32 may round it to either side."""
    correlation = np.corrcoef(np.stack([thumbnail(image) for image in images]).reshape(len(images), -1))
    return bool(np.abs(correlation - threshold).min() > 1e-5)


@given(st.integers(2, 12), st.floats(0.0, 0.9), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_look_alikes_against_numpy(count: int, threshold: float, seed: int) -> None:
    images = noise(count, 48, seed)
    images[1:] = np.maximum(images[1:], images[0] * (np.arange(1, count) % 3 == 0)[:, None, None])
    assume(is_clear(images, threshold))
    assert look_alike_groups(images, threshold) == brute_force(images, threshold)


def varied(image: NDArray[np.uint8], how: str, strength: float, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The same image as it comes back from another export, or one beside it in a clip."""
    values = image.astype(float)
    if how == "gain":
        values = values * (1 - strength / 2) + 100 * strength
    elif how == "noise":
        values = values + generator.normal(0, 30 * strength, image.shape)
    elif how == "shift":
        values = np.roll(values, round(4 * strength), axis=1)
    elif how == "scale":
        side = round(image.shape[0] * (1 - strength / 2))
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        values = np.asarray(small.resize(image.shape[::-1], Image.Resampling.BILINEAR)).astype(float)
    return values.clip(0, 255).astype(np.uint8)


VARIATIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["gain", "noise", "shift", "scale"]), st.floats(0, 1)), max_size=8
)


@given(VARIATIONS, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_close_hashes_miss_no_near_duplicate(variations: list[tuple[int, str, float]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Coarse structure under fine grain, as tissue under speckle.
    coarse = noise(4, 6, seed)
    images = [np.asarray(Image.fromarray(one).resize((96, 96), Image.Resampling.BICUBIC)) for one in coarse]
    images = [(image * generator.uniform(0.6, 1, image.shape)).astype(np.uint8) for image in images]
    images += [varied(images[which], how, strength, generator) for which, how, strength in variations]
    stack = np.stack(images)
    assume(is_clear(stack, NEAR_DUPLICATE))
    assert duplicate_groups(stack) == brute_force(stack, NEAR_DUPLICATE)


def test_many_frames_of_one_clip() -> None:
    images = np.repeat(noise(3), [700, 1, 40], axis=0)
    assert duplicate_groups(images) == [list(range(700)), list(range(701, 741))]


def test_a_blank_image_resembles_none() -> None:
    images = noise(4)
    images[1:3] = 0
    assert duplicate_groups(images) == look_alike_groups(images, 0.5) == []
    assert duplicate_groups(np.zeros((3, 48, 48), np.uint8)) == []


def test_none_and_one() -> None:
    for count in (0, 1):
        assert duplicate_groups(noise(count)) == look_alike_groups(noise(count), 0.5) == []


def test_more_images_than_a_block() -> None:
    images = noise(1100, 16)
    images[1050], images[1099] = images[3], images[1060]
    assert duplicate_groups(images) == look_alike_groups(images, 0.9) == [[3, 1050], [1060, 1099]]


def test_patients_of_a_group_become_one() -> None:
    records = [made_record("d", name, "benign", patient) for name, patient in zip("abcdef", "ZYXWVV", strict=True)]
    grouped = group_patients(records, [[0, 1], [1, 2], [4, 5]])
    assert [record.patient for record in grouped] == ["X", "X", "X", "W", "V", "V"]
    assert [record.id for record in grouped] == [record.id for record in records]
    assert [record.patient for record in records] == list("ZYXWVV")


def test_all_images_of_merged_patients_move() -> None:
    records = [made_record("d", name, "benign", patient) for name, patient in zip("abcd", "PPQQ", strict=True)]
    assert {record.patient for record in group_patients(records, [[1, 2]])} == {"P"}


def test_patients_of_different_datasets_stay_apart() -> None:
    names = [("d", "1"), ("e", "2"), ("f", "3")]
    records = [made_record(dataset, "a", "benign", patient) for dataset, patient in names]
    records += [made_record("d", "b", "benign", "9")]
    assert [record.patient for record in group_patients(records, [[0, 1, 3], [1, 2]])] == ["1", "2", "3", "1"]


@given(any_records(), st.data())
@settings(max_examples=50, deadline=None)
def test_no_group_straddles_patients(records: list[Record], data: st.DataObject) -> None:
    indices = st.lists(st.integers(0, len(records) - 1), min_size=1, max_size=4, unique=True)
    groups = data.draw(st.lists(indices, max_size=4))
    grouped = group_patients(records, groups)
    for group in groups:
        for dataset in {records[i].dataset for i in group}:
            assert len({grouped[i].patient for i in group if records[i].dataset == dataset}) == 1
    # Whoever shared a patient still does, and names come from the patients there were.
    for before, after in zip(records, grouped, strict=True):
        assert after.patient in {r.patient for r in records if r.dataset == before.dataset}
        assert {r.patient for r, b in zip(grouped, records, strict=True) if b.patient_id == before.patient_id} == {
            after.patient
        }
    assert group_patients(grouped, groups) == grouped
    assert group_patients(records, []) == records


def test_native_busi(shared_data: Path) -> None:
    records = read_dataset("busi", shared_data / "native" / "Dataset_BUSI_with_GT")
    thumbnails = np.stack([thumbnail(read_image(record.image)) for record in records])
    groups = [[records[i].image.stem for i in group] for group in duplicate_groups(thumbnails)]
    assert groups == [
        ["benign (131)", "benign (42)", "malignant (51)"],
        ["benign (399)", "malignant (93)"],
        ["benign (433)", "malignant (145)"],
        ["benign (437)", "normal (34)"],
    ]


def test_native_bus_uclm_is_one_patient_under_two_names(shared_data: Path) -> None:
    records = read_dataset("bus_uclm", shared_data / "native" / "BUS-UCLM")
    thumbnails = np.stack([thumbnail(read_image(record.image)) for record in records])
    grouped = group_patients(records, duplicate_groups(thumbnails))
    assert {r.patient for r in grouped} == {"ALWI", "CHCO", "HESN", "POFR"}
    assert sum(r.patient == "CHCO" for r in grouped) == 8


@pytest.mark.slow
def test_all_of_busi(shared_data: Path) -> None:
    """55 groups of 124 images in the original files; one more pair (0.99002) in copies of at most 320 pixels."""
    records = read_dataset("busi", shared_data / "Dataset_BUSI_with_GT")
    images = [read_image(record.image) for record in records]
    groups = duplicate_groups(np.stack([thumbnail(image) for image in images]))
    assert abs(len(groups) - 55) <= 2
    assert abs(sum(map(len, groups)) - 124) <= 4
    across = [group for group in groups if len({records[i].label for i in group}) > 1]
    assert len(across) == 4
    # What a store of 256 x 256 sees is much the same.
    stored = np.stack([np.asarray(Image.fromarray(image).resize((256, 256))) for image in images])
    assert abs(len(duplicate_groups(stored)) - 55) <= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "root"), [("busi", "Dataset_BUSI_with_GT"), ("bus_uclm", "BUS-UCLM"), ("bus_bra", "BUSBRA")]
)
def test_hashes_lose_nothing_on_real_images(shared_data: Path, name: str, root: str) -> None:
    records = read_dataset(name, shared_data / root)
    thumbnails = np.stack([thumbnail(read_image(record.image)) for record in records])
    assert duplicate_groups(thumbnails) == look_alike_groups(thumbnails, 0.99)
