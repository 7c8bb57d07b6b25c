"""Splits of configured datasets."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from episodes.errors import SamplingError, UserError
from episodes.records import records_hash
from episodes.sampling.splits import find_crossings, look_alikes_together, read_split
from episodes.storage.store import Collection
from fewshot.config.data import DataConfig, SampleConfig
from fewshot.config.parsing import ConfigError
from fewshot.config.training import TrainConfig
from fewshot.data.splitting import describe_split, load_data_config, make_splits, write_splits
from tests.fewshot.made_stores import Made, made_store, picture
from tests.fewshot.small_networks import train_config
from tests.fewshot.tiny_runs import PHANTOMS


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """30 images of 30 names; every third looks like the one before."""
    images = [
        Made(
            f"{number:02}",
            ("benign", "malignant")[number // 3 % 2],
            picture(number, like=number - 1 if number % 3 == 2 else None, share=0.05),
        )
        for number in range(30)
    ]
    return Collection([made_store(tmp_path_factory.mktemp("alike"), images)])


def with_folds(whole: Collection, moved: int = 0) -> Collection:
    """The same with official folds of five, which keep look-alikes together but for the images moved."""
    (store,) = whole.stores
    records = [
        replace(record, split=str(((place if place < moved else place // 3) % 5) + 1))
        for place, record in enumerate(store.records)
    ]
    return Collection([replace(store, records=tuple(records))])


# What is split


def written(folder: Path, tree: dict[str, object]) -> Path:
    (folder / "any.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder / "any.yaml"


def test_a_configuration_of_data_of_episodes_or_of_a_training_will_do(tmp_path: Path) -> None:
    data = {"datasets": PHANTOMS, "image_size": 64}
    config, names = load_data_config(written(tmp_path, data))
    assert (type(config), names) == (DataConfig, ("linear", "highfreq", "portable"))
    config, names = load_data_config(written(tmp_path, {**data, "episodes": {}, "seed": 3}))
    assert (type(config), names) == (SampleConfig, ("linear", "highfreq", "portable"))
    training = train_config("unet").model_dump(mode="json") | {"datasets": PHANTOMS, "sources": ["portable"]}
    config, names = load_data_config(written(tmp_path, training), ["image_size=96"])
    assert (type(config), names, config.image_size) == (TrainConfig, ("portable",), 96)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"datasets": PHANTOMS, "image_sise": 64}, "image_sise: unknown key; did you mean 'image_size'"),
        ({"image_size": 64}, "datasets: Field required"),
        ({"datasets": PHANTOMS, "episodes": {"n_shots": 1}}, "episodes.n_shots: unknown key; did you mean 'n_shot'"),
        ({"datasets": PHANTOMS, "train": {"steps": 1}, "name": "a"}, "sources: Field required"),
    ],
)
def test_each_kind_is_read_strictly(tmp_path: Path, tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_data_config(written(tmp_path, tree))


# How


@pytest.mark.parametrize("seed", range(3))
def test_no_look_alike_is_on_two_sides_and_the_records_are_the_stores(alike: Collection, seed: int) -> None:
    grouped = look_alikes_together(alike)
    assert len({record.patient for record in grouped}) == 20
    splits = [
        *make_splits(alike, seed=seed).values(),
        *make_splits(alike, {"a": 0.5, "b": 0.5}, seed=seed).values(),
        *make_splits(alike, folds=4, seed=seed).values(),
    ]
    assert len(splits) == 6
    for split in splits:
        assert find_crossings(grouped, split.parts) == []
        assert split.records == records_hash(alike.records) != records_hash(grouped)
        assert split.seed == seed


def test_names_of_folds_are_added_to_that_of_the_file(alike: Collection, tmp_path: Path) -> None:
    assert list(make_splits(alike)) == [""]
    files = write_splits(tmp_path / "new" / "my.split.json", make_splits(alike, folds=2))
    assert [path.name for path in files] == ["my.split-fold0.json", "my.split-fold1.json"]
    for path, split in files.items():
        assert read_split(path, alike.records) == split


def test_nothing_is_written_if_one_file_is_there_already(alike: Collection, tmp_path: Path) -> None:
    splits = make_splits(alike, folds=3)
    (tmp_path / "s-fold2.json").write_text("mine")
    with pytest.raises(UserError, match=r"s-fold2\.json: exists already"):
        write_splits(tmp_path / "s.json", splits)
    assert [path.name for path in tmp_path.iterdir()] == ["s-fold2.json"]
    assert len(write_splits(tmp_path / "s.json", splits, overwrite=True)) == 3


def test_a_part_is_described_by_images_patients_and_classes(alike: Collection) -> None:
    (split,) = make_splits(alike, {"test": 0.5, "extra": 0.25, "train": 0.25}).values()
    lines = list(describe_split(split, alike.records))
    assert [line.split(":")[0] for line in lines] == ["train", "test", "extra"]
    counted = [list(map(int, (word for word in line.replace("(", "").split() if word.isdigit()))) for line in lines]
    assert sum(line[0] for line in counted) == 30
    assert all(images == patients == benign + malignant for images, patients, benign, malignant in counted)
    only = replace(split, parts=dict.fromkeys(split.parts, "train") | {alike.records[0].id: "test"})
    assert list(describe_split(only, alike.records))[1] == "test: 1 images of 1 patient (1 benign)"


# Official folds


def test_official_folds_are_taken_as_they_are(alike: Collection, caplog: pytest.LogCaptureFixture) -> None:
    official = with_folds(alike)
    with caplog.at_level(logging.INFO):
        splits = make_splits(official, official=5)
    assert list(splits) == [f"fold{number}" for number in range(1, 6)]
    for number, split in enumerate(splits.values(), start=1):
        tested = {record.id for record in split.select(official.records, "test")}
        assert tested == {record.id for record in official.records if record.split == str(number)}
    assert caplog.messages == ["official folds: no patient, near-duplicate or look-alike is in two of them"]


def test_what_crosses_official_folds_is_not_hidden(alike: Collection, caplog: pytest.LogCaptureFixture) -> None:
    moved = with_folds(alike, moved=3)
    make_splits(moved, official=5)
    assert caplog.messages == [
        "official folds: 1 look-alike group is in more than one fold: folder/?01 in 2 (folder/01) and 3 (folder/02)"
    ]
    caplog.clear()
    (store,) = moved.stores
    merged = Collection([replace(store, records=tuple(look_alikes_together(moved)))])
    make_splits(merged, official=5)
    (message,) = caplog.messages
    assert message == (
        "official folds: 1 patient is in more than one fold: folder/?01 in 2 (folder/01) and 3 (folder/02); a training"
        " refuses such a split"
    )


def test_images_without_a_fold_are_listed(alike: Collection, caplog: pytest.LogCaptureFixture) -> None:
    (store,) = with_folds(alike).stores
    records = tuple(
        replace(record, split=None if place < 6 else record.split) for place, record in enumerate(store.records)
    )
    splits = make_splits(Collection([replace(store, records=records)]), official=5)
    first, *_ = caplog.messages
    assert first == (
        "6 images are in no official fold: folder/00, folder/01, folder/02, folder/03, folder/04 and 1 more"
    )
    assert list(describe_split(splits["fold1"], records))[-1].startswith("left-out: 6 images of")


def test_datasets_without_official_folds_are_told(alike: Collection) -> None:
    with pytest.raises(SamplingError, match="folder: no official partition into 10 folds"):
        make_splits(with_folds(alike), official=10)
