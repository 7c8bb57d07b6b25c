"""A training on the parts of a split on disk."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import ManifestError, UserError
from episodes.records import records_hash
from episodes.sampling.splits import LEFT_OUT, LOOK_ALIKE, Split, look_alikes_together, write_split
from episodes.storage.store import Collection
from fewshot.checkpoints import load_checkpoint
from fewshot.config.training import FoldConfig, TrainConfig
from fewshot.data.splitting import make_splits, write_splits
from fewshot.inference.support import record_hashes
from fewshot.training.partition import SplitPart, divide, read_parts, split_hash
from fewshot.training.run import train, training_facts
from tests.fewshot.made_stores import Made, made_store, picture
from tests.fewshot.small_networks import train_config
from tests.fewshot.tiny_runs import silent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """12 patients of two images each, the last two of whom look alike."""
    images = [
        Made(
            f"{patient:02}{side}",
            ("benign", "malignant", "normal")[patient % 3],
            picture(2 * patient + place, like=None if patient < 11 or place else 20, share=0.05),
            f"p{patient:02}",
        )
        for patient in range(12)
        for place, side in enumerate("lr")
    ]
    return Collection([made_store(tmp_path_factory.mktemp("made"), images)])


def config(path: Path, **changes: Any) -> TrainConfig:
    return train_config("unet", **changes).model_copy(update={"split": path})


def by_patient(sources: Collection, **patients: range) -> Split:
    """A split of the given patients' numbers; the others are left out."""
    part_of = {f"p{number:02}": part for part, numbers in patients.items() for number in numbers}
    parts = {record.id: part_of.get(record.patient, LEFT_OUT) for record in sources.records}
    return Split(parts, records_hash(sources.records), None)


def written(folder: Path, split: Split) -> Path:
    write_split(folder / "split.json", split)
    return folder / "split.json"


def patients(part: SplitPart | None) -> set[int]:
    assert part is not None
    return {int(record.patient[1:]) for record in part.records}


# Its parts


def test_a_training_has_the_parts_that_the_file_names(made: Collection, tmp_path: Path) -> None:
    path = written(tmp_path, by_patient(made, train=range(6), val=range(6, 9), test=range(9, 12)))
    found = divide(made, config(path, validation={"share": 0.5}))
    assert patients(found.train) == set(range(6))
    assert patients(found.validation) == {6, 7, 8}
    assert patients(found.test) == {9, 10, 11}


def test_validation_images_are_not_trained_on_even_where_nothing_is_validated(
    made: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, by_patient(made, train=range(6), val=range(6, 9), test=range(9, 12)))
    with caplog.at_level(logging.INFO):
        found = divide(made, config(path))
    assert (patients(found.train), found.validation) == (set(range(6)), None)
    assert "val: 6 images of the split are not used, as there is no train.validation" in caplog.messages


def test_without_a_part_to_validate_on_a_share_of_the_training_part_is(made: Collection, tmp_path: Path) -> None:
    path = written(tmp_path, by_patient(made, train=range(9), test=range(9, 12)))
    found = divide(made, config(path, validation={"share": 0.4}))
    assert patients(found.test) == {9, 10, 11}
    assert patients(found.train) | patients(found.validation) == set(range(9))
    assert patients(found.train).isdisjoint(patients(found.validation))
    assert len(patients(found.validation)) == pytest.approx(3.6, abs=1)


def test_what_is_left_out_is_in_no_part(made: Collection, tmp_path: Path) -> None:
    found = divide(made, config(written(tmp_path, by_patient(made, train=range(7)))))
    assert patients(found.train) == set(range(7))
    assert (found.validation, found.test) == (None, None)


def test_labels_choose_among_the_images_of_a_part(made: Collection, tmp_path: Path) -> None:
    path = written(tmp_path, by_patient(made, train=range(6), test=range(6, 12)))
    found = divide(made, config(path, labels=["benign"]))
    assert patients(found.train) == {0, 3}
    assert patients(found.test) == set(range(6, 12))


def test_what_make_splits_writes_is_taken_as_it_is(made: Collection, tmp_path: Path) -> None:
    files = write_splits(tmp_path / "mine.json", make_splits(made, folds=3))
    tested = [patients(divide(made, config(path)).test) for path in files]
    assert sorted(number for fold in tested for number in fold) == list(range(12))
    assert any({10, 11} <= fold for fold in tested)


# What is refused


def test_a_patient_on_two_sides_is_refused(made: Collection, tmp_path: Path) -> None:
    split = by_patient(made, train=range(6), test=range(6, 12))
    crossing = replace(split, parts={**split.parts, "folder/00r": "test", "folder/03l": "val"})
    path = written(tmp_path, crossing)
    with pytest.raises(ManifestError) as caught:
        divide(made, config(path))
    assert str(caught.value) == (
        f"{path}: 2 patients are in more than one part: folder/p00 in train (folder/00l) and test (folder/00r);"
        " folder/p03 in val (folder/03l) and train (folder/03r); near-duplicates count as one patient's; `fewshot data"
        " split` keeps patients apart"
    )


def test_near_duplicates_on_two_sides_are_refused(tmp_path: Path) -> None:
    """Two patients of whom one has the other's image, a little darker: the store makes them one."""
    images = [Made(f"{number}", "benign", picture(number), f"p{number}") for number in range(6)]
    copy = Made("copy", "benign", (picture(0) * 0.95).astype("uint8"), "p6")
    sources = Collection([made_store(tmp_path / "copied", [*images, copy])])
    parts = {record.id: "test" if record.id == "folder/copy" else "train" for record in sources.records}
    path = written(tmp_path, Split(parts, records_hash(sources.records), None))
    with pytest.raises(ManifestError, match=r"1 patient is in more than one part: folder/p0 in train \(folder/0\) and"):
        divide(sources, config(path))


def test_look_alikes_on_two_sides_are_warned_of(
    made: Collection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    merged = {record.patient for record in look_alikes_together(made)}
    assert len(merged) == 11
    assert LOOK_ALIKE == 0.9
    path = written(tmp_path, by_patient(made, train=range(11), test=range(11, 12)))
    found = divide(made, config(path))
    assert patients(found.test) == {11}
    (warning,) = [message for message in caplog.messages if "look-alike" in message]
    assert warning.startswith(f"{path}: 1 look-alike group is in more than one part: folder/p10 in train")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["train", "dev"], r"has the part 'dev'; a training knows train, val, test, left-out"),
        (["val", "test"], r"has no part 'train'; a training needs one"),
    ],
)
def test_parts_that_a_training_has_no_use_for_are_named(
    made: Collection, tmp_path: Path, parts: list[str], message: str
) -> None:
    path = written(tmp_path, by_patient(made, **{parts[0]: range(6), parts[1]: range(6, 12)}))
    with pytest.raises(ManifestError, match=message):
        divide(made, config(path))


def test_a_split_of_other_records_is_refused(made: Collection, tmp_path: Path) -> None:
    path = written(tmp_path, by_patient(made, train=range(12)))
    fewer = SplitPart(made, made.records[:-2])
    with pytest.raises(ManifestError, match=r"not all of its records are among the 22 at hand"):
        read_parts(path, fewer.records, fewer.records)
    with pytest.raises(ManifestError, match=r"nowhere\.json: there is no such file"):
        divide(made, config(tmp_path / "nowhere.json"))


@pytest.mark.parametrize(
    ("other", "named"),
    [({"test_share": 0.2}, "`test_share` or `split`"), ({"test_fold": {}}, "`test_fold` or `split`")],
)
def test_one_way_to_choose_a_test_part_is_enough(other: dict[str, Any], named: str) -> None:
    tree = train_config("unet").model_dump() | {"split": "split.json"} | other
    if "test_fold" in other:
        tree["test_fold"] = FoldConfig(index=0, of=2)
    with pytest.raises(ValueError, match=f"give either {named}"):
        TrainConfig.model_validate(tree)


# The training


def test_a_checkpoint_knows_its_test_part_and_its_split(made: Collection, tmp_path: Path) -> None:
    split = by_patient(made, train=range(6), test=range(6, 12))
    asked = config(written(tmp_path, split), steps=1)
    path = train(asked, tmp_path / "run", silent(), made)
    facts = load_checkpoint(path).facts
    hashes = record_hashes(made.stores)
    assert facts["test_images"] == sorted({hashes[record.id] for record in split.select(made.records, "test")})
    assert facts["split"] == split_hash(tmp_path / "split.json")
    assert "split.json" not in json.dumps(facts)
    assert train(asked, tmp_path / "run", silent(), made) == path


def test_a_training_does_not_go_on_with_another_split_or_none(made: Collection, tmp_path: Path) -> None:
    asked = config(written(tmp_path, by_patient(made, train=range(6), test=range(6, 12))), steps=1)
    train(asked, tmp_path / "run", silent(), made)
    write_split(tmp_path / "split.json", by_patient(made, train=range(7), test=range(7, 12)))
    for other in (asked, asked.model_copy(update={"split": None})):
        with pytest.raises(UserError, match=r"the training there differs in split; give another name"):
            train(other, tmp_path / "run", silent(), made)


def test_trainings_without_a_split_say_nothing_of_it(made: Collection, tmp_path: Path) -> None:
    assert "split" not in training_facts(train_config("unet"))
    first = config(written(tmp_path, by_patient(made, train=range(6))))
    (tmp_path / "elsewhere").mkdir()
    second = first.model_copy(update={"split": (tmp_path / "split.json").rename(tmp_path / "elsewhere" / "b.json")})
    assert training_facts(second)["split"] == split_hash(second.split or Path())
    with pytest.raises(ManifestError, match="no such file"):
        training_facts(first)
