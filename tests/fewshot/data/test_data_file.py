"""What a run writes down of its data: what was used, what was not and why."""

import json
from pathlib import Path

import pytest

from episodes.curation.policy import Corrections, Policy
from episodes.errors import UserError
from episodes.records import Record
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection, Store
from fewshot.stores import data_record, write_data_record
from fewshot.training.run import train
from tests.episodes.made_pictures import SIZE, one_of_each
from tests.fewshot.small_networks import train_config
from tests.fewshot.tiny_runs import silent


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return one_of_each(tmp_path / "dataset")


def store_of(records: list[Record], tmp_path: Path, policy: Policy | None = None) -> Store:
    return prepare_store(records, tmp_path / "stores", SIZE, policy=policy)


def test_all_that_is_used_and_all_that_is_not_is_counted(records: list[Record], tmp_path: Path) -> None:
    store = store_of(records, tmp_path, Policy("keep-first", corrections=Corrections("here", {"c": "blurred"})))
    assert data_record([store]) == {
        "made": {
            "store": store.folder.name,
            "policy": {
                "duplicates": "keep-first",
                "doppler": "keep",
                "curated": None,
                "corrections": {"exclude": {"c": "blurred"}, "relabel": {}, "rename_patients": {}},
            },
            "kept": {"images": 3, "patients": 3, "normal": 0, "benign": 1, "malignant": 1, "unknown": 1},
            "dropped": {"excluded by corrections": 1},
            "dropped_images": [{"id": "made/c", "reason": "excluded by corrections", "detail": "blurred"}],
        }
    }


def test_a_run_goes_on_with_the_data_that_it_began_with(records: list[Record], tmp_path: Path) -> None:
    before, after = store_of(records, tmp_path), store_of(records, tmp_path, Policy("drop-all"))
    write_data_record(tmp_path, [before])
    written = (tmp_path / "data.json").read_bytes()
    write_data_record(tmp_path, [before], going_on=True)
    assert (tmp_path / "data.json").read_bytes() == written
    with pytest.raises(UserError, match=r"data\.json: the run there began with other data: .* of made have changed"):
        write_data_record(tmp_path, [after], going_on=True)
    assert (tmp_path / "data.json").read_bytes() == written
    write_data_record(tmp_path, [after])  # another run in the place of the first
    assert json.loads((tmp_path / "data.json").read_text()) == data_record([after])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"made": 1}'])
def test_a_damaged_file_is_not_that_of_these_data(text: str, records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match="began with other data"):
        write_data_record(tmp_path, [store_of(records, tmp_path)], going_on=True)


def test_a_training_writes_it(linear_phantoms: Collection, tmp_path: Path) -> None:
    train(train_config("unet"), tmp_path / "run", silent(), linear_phantoms)
    assert json.loads((tmp_path / "run" / "data.json").read_text()) == data_record(linear_phantoms.stores)
