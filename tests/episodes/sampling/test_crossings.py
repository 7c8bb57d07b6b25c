from episodes.sampling.splits import Crossing, find_crossings
from tests.episodes.made_records import made_record

RECORDS = [
    made_record("a", "1", "benign", "p"),
    made_record("a", "2", "normal", "p"),
    made_record("a", "3", "benign", "p"),
    made_record("b", "4", "benign", "p"),
    made_record("b", "5", "malignant", "q"),
]


def test_only_those_on_several_sides_are_found() -> None:
    parts = {"a/1": "train", "a/2": "test", "a/3": "train", "b/4": "val", "b/5": "test"}
    assert find_crossings(RECORDS, parts) == [Crossing("a/p", {"train": ["a/1", "a/3"], "test": ["a/2"]})]


def test_equal_names_in_two_datasets_are_two_patients() -> None:
    assert find_crossings(RECORDS, {record.id: record.dataset for record in RECORDS}) == []


def test_who_is_in_no_part_does_not_matter() -> None:
    assert find_crossings(RECORDS, {"a/1": "train", "a/3": "train"}) == []
    assert len(find_crossings(RECORDS, {"a/1": "train", "a/3": "test"})) == 1


def test_a_crossing_names_patient_parts_and_the_first_images() -> None:
    (found,) = find_crossings(RECORDS, {"a/1": "train", "a/2": "test", "a/3": "train"})
    assert str(found) == "a/p in train (a/1 and 1 more) and test (a/2)"
