from dataclasses import replace
from pathlib import Path

import pytest

from episodes.datasets import read_dataset
from episodes.errors import SamplingError
from episodes.records import Record, records_hash
from episodes.sampling.splits import LEFT_OUT, find_crossings, official_folds, read_split, without_fold, write_split
from tests.episodes.made_records import made_dataset

PLAIN = made_dataset("bus_bra", {"benign": 12, "malignant": 8})


def with_folds(records: list[Record]) -> list[Record]:
    """Of the i-th image, i modulo 5 is the one fold and i modulo 10 the other, both from 1."""
    return [
        replace(record, split=str(place % 5 + 1), extra={"10-fold": str(place % 10 + 1)})
        for place, record in enumerate(records)
    ]


@pytest.mark.parametrize("n_folds", [5, 10])
def test_each_fold_is_tested_once_and_bears_its_own_name(n_folds: int) -> None:
    records = with_folds(PLAIN)
    folds = official_folds(records, n_folds)
    assert list(folds) == [str(number) for number in range(1, n_folds + 1)]
    for name, split in folds.items():
        tested = [place for place, record in enumerate(records) if split.parts[record.id] == "test"]
        assert tested == list(range(int(name) - 1, 20, n_folds))
        assert set(split.parts.values()) == {"train", "test"}
        assert (split.records, split.seed) == (records_hash(records), None)
        assert without_fold(split) == []


def test_images_without_a_fold_are_in_no_part_that_counts() -> None:
    records = with_folds(PLAIN)
    records[3] = replace(records[3], split=None)
    for split in official_folds(records, 5).values():
        assert without_fold(split) == [records[3].id]
        assert split.parts[records[3].id] == LEFT_OUT
        assert len(split.select(records, "train")) + len(split.select(records, "test")) == 19


def test_official_folds_come_back_from_their_files(tmp_path: Path) -> None:
    records = with_folds(PLAIN)
    split = official_folds(records, 5)["2"]
    write_split(tmp_path / "fold.json", split)
    assert read_split(tmp_path / "fold.json", records) == split


def test_what_crosses_them_is_not_put_right() -> None:
    records = [replace(record, patient="one") for record in with_folds(PLAIN)]
    assert len(find_crossings(records, official_folds(records, 5)["1"].parts)) == 1


@pytest.mark.parametrize(
    "records", [PLAIN, with_folds(PLAIN[:4]), [*with_folds(PLAIN), *made_dataset("busi", {"normal": 3})]]
)
def test_where_there_are_none_it_is_said(records: list[Record]) -> None:
    with pytest.raises(SamplingError, match=r"^bus_bra.*: no official partition into 5 folds; BUS-BRA alone has one"):
        official_folds(records, 5)


@pytest.mark.parametrize("n_folds", [5, 10])
def test_the_authors_of_bus_bra_keep_patients_together(shared_data: Path, n_folds: int) -> None:
    records = read_dataset("bus_bra", shared_data / "BUSBRA")
    folds = official_folds(records, n_folds)
    for split in folds.values():
        assert find_crossings(records, split.parts) == []
        assert without_fold(split) == []
        assert len(split.select(records, "test")) == pytest.approx(1875 / n_folds, rel=0.06)
