import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from episodes.errors import ManifestError, SamplingError
from episodes.records import Label, Record, records_hash
from episodes.sampling.splits import (
    FRACTIONS,
    Crossing,
    find_crossings,
    k_folds,
    read_split,
    split_records,
    write_split,
)
from tests.episodes.made_records import any_records, made_dataset, made_record

RECORDS = made_dataset("a", {"benign": 12, "malignant": 8, "normal": 10}, 2)


def uneven_records(seed: int) -> list[Record]:
    """Forty patients with 1 to 40 images each, normal ones among the lesions, as BUS-UCLM has them."""
    generator = random.Random(seed)  # noqa: S311
    lesions: list[Label] = ["benign", "benign", "malignant"]
    return [
        made_record("a", f"{patient}-{image}", generator.choice(("normal", lesion)), f"p{patient}")
        for patient in range(40)
        for lesion in [generator.choice(lesions)]
        for image in range(generator.choice([1, 2, 5, 5, 10, 20, 40]))
    ]


@settings(max_examples=50, deadline=None)
@given(any_records(), st.integers(), st.randoms())
def test_patients_stay_whole_and_order_does_not_matter(
    records: list[Record], seed: int, shuffler: random.Random
) -> None:
    try:
        split = split_records(records, seed=seed)
    except SamplingError:
        assume(False)
        raise
    assert split.parts.keys() == {record.id for record in records}
    assert set(split.parts.values()) == set(FRACTIONS)
    parts_of = {(record.patient_id, split.parts[record.id]) for record in records}
    assert len(parts_of) == len({record.patient_id for record in records})
    shuffler.shuffle(records)
    assert split_records(records, seed=seed) == split


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["benign", "malignant", "normal"]), st.integers(3, 9), min_size=1),
    st.integers(1, 5),
    st.integers(),
)
def test_every_label_of_every_dataset_is_in_every_part_and_fold(
    counts: dict[Label, int], images: int, seed: int
) -> None:
    records = made_dataset("a", counts, images) + made_dataset("b", counts)
    split = split_records(records, seed=seed)
    for part in FRACTIONS:
        found = {(record.dataset, record.label) for record in split.select(records, part)}
        assert found == {(dataset, label) for dataset in "ab" for label in counts}
    for split in k_folds(records, 3, seed):
        tested = {(record.dataset, record.label) for record in split.select(records, "test")}
        assert tested == {(dataset, label) for dataset in "ab" for label in counts}


@pytest.mark.parametrize("fractions", [FRACTIONS, {"train": 0.5, "test": 0.5}, {"x": 0.1, "y": 0.9}])
def test_fractions_are_met_to_the_image_where_patients_have_one(fractions: Mapping[str, float]) -> None:
    records = made_dataset("a", {"benign": 60, "malignant": 40, "normal": 20})
    for seed in range(10):
        split = split_records(records, fractions, seed)
        for part, share in fractions.items():
            counts = Counter(record.label for record in split.select(records, part))
            assert counts == {"benign": 60 * share, "malignant": 40 * share, "normal": 20 * share}


def test_fractions_are_about_met_where_patients_are_uneven() -> None:
    for seed in range(20):
        records = uneven_records(seed)
        split = split_records(records, seed=seed)
        for part, share in FRACTIONS.items():
            assert abs(len(split.select(records, part)) / len(records) - share) < 0.05


def test_large_patients_reach_every_part_as_often_as_its_fraction_says() -> None:
    records = uneven_records(0)
    largest = Counter(record.patient_id for record in records).most_common(1)[0][0]
    example = next(record.id for record in records if record.patient_id == largest)
    seen = Counter(split_records(records, seed=seed).parts[example] for seed in range(200))
    expected = {part: 200 * share for part, share in FRACTIONS.items()}
    assert sum((seen[part] - n) ** 2 / n for part, n in expected.items()) < 13.8  # 2 degrees, p = 0.001


def unevenness(records: list[Record], folds: Sequence[Sequence[Record]]) -> float:
    """How far the folds' shares of the labels are from equal, on average over both."""
    totals = Counter(record.label for record in records)
    counts = [Counter(record.label for record in fold) for fold in folds]
    return fmean(abs(found[name] / n - 1 / len(folds)) for found in counts for name, n in totals.items())


@pytest.mark.parametrize("n_folds", [3, 5, 10])
def test_folds_are_at_least_as_even_as_those_of_scikit_learn(n_folds: int) -> None:
    ours, reference = 0.0, 0.0
    for seed in range(20):
        records = uneven_records(seed)
        labels, patients = [r.label for r in records], [r.patient_id for r in records]
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(records, labels, patients)
        reference += unevenness(records, [[records[place] for place in test] for _, test in folds])
        ours += unevenness(records, [split.select(records, "test") for split in k_folds(records, n_folds, seed)])
    assert ours <= 1.005 * reference  # 0.75, 0.93 and 1.00 of it


def test_each_record_is_tested_once() -> None:
    folds = k_folds(RECORDS, 4, seed=2)
    assert len(folds) == 4
    tested = Counter(record.id for split in folds for record in split.select(RECORDS, "test"))
    assert tested == {record.id: 1 for record in RECORDS}
    assert all(set(split.parts.values()) == {"train", "test"} for split in folds)


def test_folds_are_frozen() -> None:
    # The folds of earlier versions must be found again, or what was trained on one is tested on another.
    folds = k_folds(made_dataset("a", {"benign": 4, "malignant": 3}), 3, seed=5)
    assert [[record for record, part in split.parts.items() if part == "test"] for split in folds] == [
        ["a/benign0-0", "a/benign2-0", "a/malignant2-0"],
        ["a/benign3-0", "a/malignant0-0"],
        ["a/benign1-0", "a/malignant1-0"],
    ]


def test_splits_are_frozen() -> None:
    # Results of earlier versions rest on this split: it must never change.
    split = split_records(made_dataset("a", {"benign": 4, "malignant": 3}), seed=5)
    assert split.parts == {
        "a/benign0-0": "test",
        "a/benign1-0": "val",
        "a/benign2-0": "train",
        "a/benign3-0": "train",
        "a/malignant0-0": "train",
        "a/malignant1-0": "test",
        "a/malignant2-0": "val",
    }


def test_seeds_give_different_splits() -> None:
    assert len({str(split_records(RECORDS, seed=seed).parts) for seed in range(5)}) == 5


@pytest.mark.parametrize(
    ("fractions", "named"),
    [
        ({"train": 0.5, "test": 0.4}, "{'train': 0.5, 'test': 0.4}"),
        ({"train": 1.5, "test": -0.5}, "{'train': 1.5, 'test': -0.5}"),
        ({}, "{}"),
    ],
)
def test_fractions_must_add_up(fractions: dict[str, float], named: str) -> None:
    with pytest.raises(SamplingError, match=f"^fractions are {named}; they must be positive and add up to 1$"):
        split_records(RECORDS, fractions)


def test_too_few_patients_are_counted() -> None:
    with pytest.raises(SamplingError, match=r"^part 'test' got no patient: 2 patients, 3 parts$"):
        split_records(made_dataset("a", {"benign": 2}, 50))
    with pytest.raises(SamplingError, match=r"^n_folds is 1; it must be at least 2$"):
        k_folds(RECORDS, 1)


def test_a_split_comes_back(tmp_path: Path) -> None:
    split = split_records(RECORDS, seed=9)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json", RECORDS[::-1]) == split
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["records"] == records_hash(RECORDS)
    assert content["parts"]["val"] == sorted(record.id for record in split.select(RECORDS, "val"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "is other version 1; expected was fewshot-split version 1"),
        ({"version": 7}, "is fewshot-split version 7; expected was fewshot-split version 1"),
        ({"sead": 0}, "not a split, or a damaged one; write it again"),
        ({"seed": "seven"}, "not a split, or a damaged one; write it again"),
        ({"parts": {"train": []}}, "does not name each record exactly once; write it again"),
        (
            {"parts": {"train": ["a/gone"]}},
            (
                "not all of its records are among the 60 at hand, which lack a/gone; "
                "read it with the datasets it was written for"
            ),
        ),
    ],
)
def test_a_damaged_split_is_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "split.json"
    write_split(path, split_records(RECORDS))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ManifestError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_split(path, RECORDS)


def test_a_record_in_two_parts_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(path, split_records(RECORDS))
    content = json.loads(path.read_text())
    content["parts"]["test"].append(content["parts"]["train"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(ManifestError, match="does not name each record exactly once"):
        read_split(path, RECORDS)


def test_a_split_of_other_records_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_split(path, split_records(RECORDS))
    with pytest.raises(ManifestError, match="written for other records"):
        read_split(path, [*RECORDS, made_record("a", "new", "benign", "new")])
    with pytest.raises(ManifestError, match="no such file"):
        read_split(tmp_path / "gone.json", RECORDS)


CROSSED = [
    made_record("a", "1", "benign", "p"),
    made_record("a", "2", "normal", "p"),
    made_record("a", "3", "benign", "p"),
    made_record("b", "4", "benign", "p"),
    made_record("b", "5", "malignant", "q"),
]


def test_only_those_on_several_sides_are_found() -> None:
    parts = {"a/1": "train", "a/2": "test", "a/3": "train", "b/4": "val", "b/5": "test"}
    assert find_crossings(CROSSED, parts) == [Crossing("a/p", {"train": ["a/1", "a/3"], "test": ["a/2"]})]


def test_equal_names_in_two_datasets_are_two_patients() -> None:
    assert find_crossings(CROSSED, {record.id: record.dataset for record in CROSSED}) == []


def test_who_is_in_no_part_does_not_matter() -> None:
    assert find_crossings(CROSSED, {"a/1": "train", "a/3": "train"}) == []
    assert len(find_crossings(CROSSED, {"a/1": "train", "a/3": "test"})) == 1


def test_a_crossing_names_patient_parts_and_the_first_images() -> None:
    (found,) = find_crossings(CROSSED, {"a/1": "train", "a/2": "test", "a/3": "train"})
    assert str(found) == "a/p in train (a/1 and 1 more) and test (a/2)"
