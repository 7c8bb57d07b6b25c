"""Whatever records there are, whoever is merged, and whichever seed is given: nobody is on two sides."""

import json
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from episodes.curation.near_duplicates import group_patients
from episodes.errors import ManifestError, SamplingError
from episodes.records import Record, records_hash
from episodes.sampling.splits import Split, find_crossings, k_folds, read_split, split_records, write_split
from tests.episodes.made_records import any_records, made_dataset

quick = settings(max_examples=60, deadline=None)
# The folder is the same for all examples of a test; each overwrites the last one's file.
in_a_folder = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def grouped_records(draw: st.DrawFn) -> tuple[list[Record], list[list[int]], list[Record]]:
    """Records, groups of near-duplicates among them, and the records with merged patients."""
    records = draw(any_records())
    place = st.integers(0, len(records) - 1)
    groups = draw(st.lists(st.lists(place, min_size=2, max_size=4, unique=True), max_size=4)) if records[1:] else []
    return records, groups, group_patients(records, groups)


def splits_of(records: list[Record], seed: int, n_folds: int) -> list[Split]:
    """A split into parts and one into folds; examples of too few patients are passed over."""
    try:
        return [split_records(records, seed=seed), *k_folds(records, n_folds, seed)]
    except SamplingError:
        assume(False)
        raise


@quick
@given(grouped_records(), st.integers(), st.integers(2, 4))
def test_no_patient_and_no_near_duplicate_is_on_two_sides(
    made: tuple[list[Record], list[list[int]], list[Record]], seed: int, n_folds: int
) -> None:
    records, groups, grouped = made
    for split in splits_of(grouped, seed, n_folds):
        assert split.parts.keys() == {record.id for record in records}
        for one, other in combinations(records, 2):
            if one.patient_id == other.patient_id:
                assert split.parts[one.id] == split.parts[other.id]
        for group in groups:
            for one, other in combinations([records[place] for place in group], 2):
                if one.dataset == other.dataset:  # patients of two datasets have names of their own
                    assert split.parts[one.id] == split.parts[other.id]
        assert find_crossings(grouped, split.parts) == []


@quick
@given(any_records(), st.integers(), st.integers(2, 5))
def test_folds_test_every_record_once(records: list[Record], seed: int, n_folds: int) -> None:
    _, *folds = splits_of(records, seed, n_folds)
    assert len(folds) == n_folds
    tested = Counter(record.id for split in folds for record in split.select(records, "test"))
    assert tested == {record.id: 1 for record in records}
    assert all(set(split.parts.values()) == {"train", "test"} for split in folds)


@quick
@given(any_records(), st.integers(), st.randoms())
def test_folds_do_not_depend_on_the_order_of_records(records: list[Record], seed: int, shuffler: random.Random) -> None:
    _, *folds = splits_of(records, seed, 3)
    shuffled = list(records)
    shuffler.shuffle(shuffled)
    assert [dict(split.parts) for split in k_folds(shuffled, 3, seed)] == [dict(split.parts) for split in folds]


@in_a_folder
@given(any_records(), st.one_of(st.none(), st.integers()), st.data())
def test_any_split_comes_back_from_its_file(
    tmp_path: Path, records: list[Record], seed: int | None, data: st.DataObject
) -> None:
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    parts = {record.id: data.draw(names) for record in records}
    split = Split(parts, records_hash(records), seed)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json", records) == split


RECORDS = made_dataset("a", {"benign": 6, "malignant": 4})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(path, split_records(RECORDS))
    return path


def read_or_refused(path: Path) -> Split | None:
    """The split of a file that may be damaged; None where that is said on one line."""
    try:
        return read_split(path, RECORDS)
    except ManifestError as error:
        if "\n" in str(error) or not str(error).startswith(f"{path}: "):
            raise AssertionError(f"expected one line that names the file: {error}") from error
        return None


@in_a_folder
@given(cut=st.integers(0, 10_000))
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, written: Path, cut: int) -> None:
    content = written.read_bytes().rstrip()
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(content[: cut % len(content)])
    with pytest.raises(ManifestError, match=r"damaged\.json: "):
        read_split(damaged, RECORDS)


@in_a_folder
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_never_loses_a_record(tmp_path: Path, written: Path, place: int, byte: int) -> None:
    """It is refused, or is in the name of a part or in the seed, which a file alone can tell."""
    content = bytearray(written.read_bytes())
    content[place % len(content)] = byte
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(content)
    split = read_or_refused(damaged)
    if split is None:
        return
    original = read_split(written, RECORDS)
    assert split.parts.keys() == original.parts.keys()
    assert split.records == original.records
    pairs = {(original.parts[record], part) for record, part in split.parts.items()}
    assert len(pairs) == len(set(original.parts.values()))  # the same records are together


@in_a_folder
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["format", "version", "records", "seed", "parts", "more"]),
)
def test_any_other_value_under_a_key_is_one_line(tmp_path: Path, written: Path, value: object, key: str) -> None:
    content = json.loads(written.read_text())
    content[key] = value
    damaged = tmp_path / "damaged.json"
    damaged.write_text(json.dumps(content))
    split = read_or_refused(damaged)
    if split is not None:
        assert key == "seed" or content == json.loads(written.read_text())
        assert split.parts.keys() == {record.id for record in RECORDS}
