"""What of a dataset is shown, and where it is written."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.errors import ManifestError, UserError
from episodes.records import Record
from episodes.sampling.splits import split_records, write_split
from episodes.storage.store import Collection
from fewshot.data.showing import choose_images, show_dataset
from tests.episodes.made_records import any_records, made_dataset
from tests.fewshot.plots.pictures import pixels

# Which


@given(any_records(n_datasets=1), st.integers(1, 30), st.integers(0, 5))
def test_classes_have_equal_shares_as_far_as_there_are_images(records: list[Record], count: int, seed: int) -> None:
    chosen = choose_images(records, count, seed)
    there = Counter(record.label for record in records)
    shown = {label: len(images) for label, images in chosen.items()}
    assert sum(shown.values()) == min(count, len(records))
    for label, images in chosen.items():
        assert {record.label for record in images} == {label}
        assert len({record.id for record in images}) == len(images)
    most = max(shown.values())
    assert all(shown.get(label, 0) >= min(most - 1, there[label]) for label in there)


@given(any_records(n_datasets=1), st.integers(1, 20), st.integers(0, 5))
def test_no_patient_comes_twice_before_every_other_has_come_once(records: list[Record], count: int, seed: int) -> None:
    for label, images in choose_images(records, count, seed).items():
        there = Counter(record.patient_id for record in records if record.label == label)
        shown = Counter(record.patient_id for record in images)
        most = max(shown.values())
        assert all(shown[patient] >= min(most - 1, there[patient]) for patient in there)


def test_the_choice_depends_on_the_seed_and_the_set_of_records_alone() -> None:
    records = made_dataset("d", {"benign": 20, "normal": 30})
    first = choose_images(records, 10, 3)
    assert choose_images(records[::-1], 10, 3) == first
    assert choose_images(records, 10, 4) != first
    assert list(first) == ["benign", "normal"]


def test_images_are_in_the_order_of_their_numbers() -> None:
    records = [Record("d", Path(f"benign ({n}).png"), (), "benign", f"{n}") for n in (100, 9, 17, 1)]
    chosen = choose_images(records, 4)["benign"]
    assert [record.image.stem for record in chosen] == ["benign (1)", "benign (9)", "benign (17)", "benign (100)"]


# Where


def test_figures_are_drawn_of_a_store(linear_phantoms: Collection, tmp_path: Path) -> None:
    (store,) = linear_phantoms.stores
    write_split(tmp_path / "split.json", split_records(store.records))
    files = show_dataset(store, tmp_path / "out", count=6, split=tmp_path / "split.json")
    assert [path.name for path in files] == ["contact_sheet.png", "classes.png", "splits.png"]
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert all(pixels(path).std() > 10 for path in files)
    plain = show_dataset(store, tmp_path / "plain", count=6)
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in files[:2]]


def test_nothing_is_overwritten_unasked(linear_phantoms: Collection, tmp_path: Path) -> None:
    (store,) = linear_phantoms.stores
    (tmp_path / "classes.png").write_text("mine")
    with pytest.raises(UserError, match=r"classes\.png: exists already; choose another name, or replace it"):
        show_dataset(store, tmp_path, count=2)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.png"]
    assert len(show_dataset(store, tmp_path, count=2, overwrite=True)) == 2
    assert (tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")


def test_a_split_of_other_records_draws_nothing(linear_phantoms: Collection, tmp_path: Path) -> None:
    (store,) = linear_phantoms.stores
    write_split(tmp_path / "split.json", split_records(store.records[2:]))
    with pytest.raises(ManifestError, match="written for other records"):
        show_dataset(store, tmp_path / "out", split=tmp_path / "split.json")
    assert not (tmp_path / "out").exists()
