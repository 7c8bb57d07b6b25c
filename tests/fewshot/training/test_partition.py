"""The parts of a training's sources: nobody is on two sides, and the test part stays what it is."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.curation.near_duplicates import thumbnail
from episodes.errors import SamplingError
from episodes.records import Label
from episodes.sampling.splits import LOOK_ALIKE
from episodes.storage.store import Collection
from fewshot.config.parsing import ConfigError
from fewshot.config.training import TrainConfig
from fewshot.training.partition import Partition, SplitPart, divide, require_labels
from tests.fewshot.made_stores import Made, made_store, picture
from tests.fewshot.small_networks import small_network, train_config

KINDS: tuple[Label, ...] = ("benign", "malignant", "normal")


def config(
    share: float = 0.0, test_share: float = 0.0, split_seed: int = 0, seed: int = 0, **changes: Any
) -> TrainConfig:
    validation = {"share": share} if share else None
    update = {"test_share": test_share, "split_seed": split_seed, "seed": seed}
    return train_config("unet", validation=validation, **changes).model_copy(update=update)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """45 images of 45 names; every third looks like the one before, as if of the same patient."""
    images = [
        Made(
            f"{number:02}",
            KINDS[number // 3 % 3],
            picture(number, like=number - 1 if number % 3 == 2 else None, share=0.05),
        )
        for number in range(45)
    ]
    return Collection([made_store(tmp_path_factory.mktemp("many"), images)])


def ids(part: SplitPart | None) -> set[str]:
    assert part is not None
    return {record.id for record in part.records}


def parts(partition: Partition) -> list[SplitPart]:
    return [part for part in (partition.train, partition.validation, partition.test) if part is not None]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(thumbnail(one).ravel(), thumbnail(other).ravel())[0, 1])


def count(records: Iterable[Any]) -> Counter[str]:
    return Counter(record.label for record in records)


# Sides


@pytest.mark.parametrize("split_seed", range(3))
def test_parts_hold_every_image_once_and_no_look_alikes_on_two_sides(many: Collection, split_seed: int) -> None:
    found = parts(divide(many, config(0.2, 0.2, split_seed)))
    assert len(found) == 3
    assert sorted(record.id for part in found for record in part.records) == sorted(r.id for r in many.records)
    pairs = 0
    for one, other in combinations(many.records, 2):
        if correlation(many.image(one.id), many.image(other.id)) > LOOK_ALIKE:
            pairs += 1
            assert [one.id in ids(part) for part in found] == [other.id in ids(part) for part in found]
    assert pairs == 15


def test_no_patient_is_on_two_sides(linear_phantoms: Collection) -> None:
    found = parts(divide(linear_phantoms, config(0.3, 0.3)))
    patients = [{record.patient_id for record in part.records} for part in found]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 8


def test_shares_are_of_images(many: Collection) -> None:
    train, validation, test = (len(part.records) for part in parts(divide(many, config(0.2, 0.4))))
    assert (train, validation, test) == pytest.approx((18, 9, 18), abs=3)


def test_parts_read_the_pixels_of_the_whole(many: Collection) -> None:
    part = divide(many, config(0.2)).train
    record = part.records[0]
    assert np.array_equal(part.image(record.id), many.image(record.id))
    assert np.array_equal(part.label_map(record.id), many.label_map(record.id))


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("test_share", [0.0, 0.3])
def test_there_are_the_parts_that_were_asked_for(many: Collection, share: float, test_share: float) -> None:
    found = divide(many, config(share, test_share))
    assert (found.validation is not None, found.test is not None) == (share > 0, test_share > 0)


def test_the_split_depends_on_the_split_seed_and_not_on_the_training_s(many: Collection) -> None:
    first = divide(many, config(0.2, 0.2, seed=0))
    again = divide(many, config(0.2, 0.2, seed=7))
    other = divide(many, config(0.2, 0.2, split_seed=1))
    assert [ids(part) for part in parts(first)] == [ids(part) for part in parts(again)]
    assert ids(first.test) != ids(other.test)


# Labels


def test_labels_choose_what_is_trained_and_validated_on_and_not_what_is_tested_on(many: Collection) -> None:
    everything = divide(many, config(0.2, 0.3))
    lesions = divide(many, config(0.2, 0.3, labels=["benign", "malignant"]))
    assert ids(lesions.test) == ids(everything.test)
    assert set(count(lesions.test.records)) == set(KINDS)  # type: ignore[union-attr]
    for name in ("train", "validation"):
        chosen, whole = getattr(lesions, name), getattr(everything, name)
        assert ids(chosen) == {record.id for record in whole.records if record.label != "normal"}


def test_labels_that_no_image_has_are_named(many: Collection) -> None:
    with pytest.raises(SamplingError, match=r"^the train part of the sources has 45 images, and none of .*, unknown;"):
        divide(many, config(labels=["unknown"]))


def test_labels_that_validation_has_none_of_are_named(linear_phantoms: Collection) -> None:
    """There is one normal patient, and 0.2 are too few for it."""
    with pytest.raises(SamplingError, match=r"^the validation part of the sources has \d images, and none of"):
        divide(linear_phantoms, config(0.2, labels=["normal"]))


# What a network needs


def test_labels_that_a_network_tells_apart_must_be_in_training(many: Collection) -> None:
    network = small_network("plain-multitask-unet")
    require_labels(network, divide(many, config(0.2, 0.2)))
    with pytest.raises(ConfigError, match=r"the train part .* has no normal image, which the model \(MultitaskUNet\)"):
        require_labels(network, divide(many, config(0.2, 0.2, labels=["benign", "malignant"])))
    with pytest.raises(ConfigError, match="no normal and no malignant image"):
        require_labels(network, divide(many, config(labels=["benign"])))


@pytest.mark.parametrize("name", ["multitask-unet", "deep-resnet"])
def test_a_validation_without_a_malignant_patient_is_named(name: str, many: Collection) -> None:
    whole = divide(many, config(0.2))
    assert whole.validation is not None
    lacking = Partition(
        whole.train,
        SplitPart(whole.validation, [one for one in whole.validation.records if one.label != "malignant"]),
        None,
    )
    with pytest.raises(ConfigError, match="the validation part of the sources has no malignant image") as caught:
        require_labels(small_network(name), lacking)
    assert caught.value.status == 2


def test_a_network_that_tells_nothing_apart_needs_no_label(many: Collection) -> None:
    require_labels(small_network("unet"), divide(many, config(labels=["benign"])))


# Duplicates


@pytest.fixture
def copied(tmp_path: Path) -> Collection:
    """A benign image three times, and three that are alone."""
    images = [
        *(Made(f"benign{number}", "benign", picture(0) // (1 + number)) for number in range(3)),
        *(Made(f"alone_{kind}", kind, picture(10 + number)) for number, kind in enumerate(KINDS)),
    ]
    return Collection([made_store(tmp_path, images)])


def test_no_near_duplicates_are_on_two_sides(copied: Collection) -> None:
    """What the dataset's curation keeps of them is in its store; here all three of one image."""
    assert len(copied.records) == 6
    found = parts(divide(copied, config(0.3)))
    assert sum(len(part.records) for part in found) == 6
    assert sum(any(name.startswith("folder/benign") for name in ids(part)) for part in found) == 1


# Too little


def test_shares_that_leave_a_part_nobody_are_named(copied: Collection) -> None:
    few = SplitPart(copied, copied.records[:2])
    with pytest.raises(
        SamplingError,
        match=r"^test_share 0\.3, train\.validation\.share 0\.3: part .* got no patient: .*change the shares",
    ):
        divide(few, config(0.3, 0.3))
