"""Supervised batches: every image once per epoch, in an order and with changes that (seed, step) alone decide."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from baselines.batches import ImageBatches
from episodes.augment.transforms import Augmentation
from episodes.errors import SamplingError
from episodes.records import LABEL_VALUES, LABELS, Label, Record
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection
from tests.episodes.made_records import made_dataset

PLAIN = Augmentation("none")


def batches(collection: Collection, batch_size: int = 4, strength: str = "none", seed: int = 0) -> ImageBatches:
    return ImageBatches(collection, collection.records, batch_size, Augmentation(strength), seed)  # type: ignore[arg-type]


def ids_of(items: ImageBatches, first: int, count: int) -> list[str]:
    """Which records steps show, found by their pixels."""
    by_pixels = {items.collection.image(r.id).tobytes(): r.id for r in items.collection.records}
    found = []
    for step in range(first, first + count):
        images = (items[step]["images"][:, 0] * 255).round().to(torch.uint8)
        found += [by_pixels[image.numpy().tobytes()] for image in images]
    return found


def test_a_batch_holds_images_label_maps_and_labels(linear_phantoms: Collection) -> None:
    batch = batches(linear_phantoms)[0]
    assert batch.keys() == {"images", "label_maps", "labels"}
    assert batch["images"].shape == (4, 3, 64, 64)
    assert batch["images"].dtype == torch.float32
    assert batch["label_maps"].shape == (4, 64, 64)
    assert batch["labels"].shape == (4,)
    assert batch["label_maps"].dtype == batch["labels"].dtype == torch.int64
    labels = {record.id: record.label for record in linear_phantoms.records}
    for image, label_map, label, name in zip(*batch.values(), ids_of(batches(linear_phantoms), 0, 1), strict=True):
        assert torch.equal(image, image_tensor(linear_phantoms.image(name).copy()))
        assert torch.equal(label_map, torch.from_numpy(linear_phantoms.label_map(name).astype(np.int64)))
        assert int(label) == LABEL_VALUES[labels[name]]


def test_every_image_is_seen_once_per_epoch_in_changing_order(linear_phantoms: Collection) -> None:
    everything = sorted(record.id for record in linear_phantoms.records)
    items = batches(linear_phantoms)
    first, second = ids_of(items, 0, 6), ids_of(items, 6, 6)
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert first != everything


def test_batches_run_across_the_ends_of_epochs(linear_phantoms: Collection) -> None:
    items = batches(linear_phantoms, batch_size=5)  # 24 images: the fifth batch has 4 of the first epoch
    names = ids_of(items, 0, 48 // 5 + 1)[:48]
    assert sorted(names[:24]) == sorted(names[24:]) == sorted(record.id for record in linear_phantoms.records)


def test_a_step_does_not_depend_on_those_before_it(linear_phantoms: Collection) -> None:
    forwards = [batches(linear_phantoms, strength="strong")[step] for step in range(8)]
    items = batches(linear_phantoms, strength="strong")
    for step in reversed(range(8)):
        assert all(torch.equal(tensor, forwards[step][name]) for name, tensor in items[step].items())


def test_another_seed_gives_another_order(linear_phantoms: Collection) -> None:
    assert ids_of(batches(linear_phantoms, seed=1), 0, 6) != ids_of(batches(linear_phantoms, seed=2), 0, 6)


def test_the_order_of_the_records_does_not_matter(linear_phantoms: Collection) -> None:
    turned = ImageBatches(linear_phantoms, linear_phantoms.records[::-1], 4, PLAIN)
    assert ids_of(turned, 0, 6) == ids_of(batches(linear_phantoms), 0, 6)


def test_an_image_is_augmented_otherwise_at_every_visit(linear_phantoms: Collection) -> None:
    one = ImageBatches(linear_phantoms, linear_phantoms.records[:1], 3, Augmentation("light"))
    pictures = [image.numpy().tobytes() for step in range(3) for image in one[step]["images"]]
    assert len(set(pictures)) > 6  # each change has a chance of its own, so some visits may leave the image as it is


class BrightLesions:
    """Stands for a collection whose lesions are white on black: the image shows where its mask should be."""

    def image(self, record_id: str) -> NDArray[np.uint8]:
        return self.label_map(record_id) * np.uint8(200)

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        label_map = np.zeros((64, 64), np.uint8)
        label_map[10:30, 20 + 4 * int(record_id[-3]) : 50] = 1
        return label_map


def test_image_and_mask_move_together() -> None:
    records = made_dataset("made", {"benign": 4})
    items = ImageBatches(BrightLesions(), records, 8, Augmentation("strong"))  # type: ignore[arg-type]
    batch = items[0]
    bright, masks = batch["images"][:, 0] > 0.2, batch["label_maps"].bool()
    overlap = 2 * (bright & masks).sum((1, 2)) / (bright.sum((1, 2)) + masks.sum((1, 2)))
    assert float(overlap.min()) > 0.9
    assert len({mask.numpy().tobytes() for mask in masks}) > 4


class Flat(BrightLesions):
    """Every image the same."""

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        label_map = np.zeros((64, 64), np.uint8)
        label_map[20:40, 12:36] = 2
        return label_map


def test_every_image_has_a_random_scanner_of_its_own() -> None:
    records = made_dataset("made", {"benign": 4})
    items = ImageBatches(Flat(), records, 8, PLAIN, scanner="random")  # type: ignore[arg-type]
    batch = items[0]
    assert len({image.numpy().tobytes() for image in batch["images"]}) == 8  # also the second visit's
    assert len({int((label_map > 0).sum()) for label_map in batch["label_maps"]}) > 5  # each magnified otherwise
    assert batch["label_maps"].unique().tolist() == [0, 2]


def test_random_scanners_do_not_depend_on_the_steps_before(linear_phantoms: Collection) -> None:
    def items() -> ImageBatches:
        return ImageBatches(linear_phantoms, linear_phantoms.records, 4, Augmentation("strong"), 3, "random")

    forwards = [items()[step] for step in range(4)]
    again = items()
    for step in reversed(range(4)):
        assert all(torch.equal(tensor, forwards[step][name]) for name, tensor in again[step].items())
    recorded = ImageBatches(linear_phantoms, linear_phantoms.records, 4, Augmentation("strong"), 3, "recorded")
    default = ImageBatches(linear_phantoms, linear_phantoms.records, 4, Augmentation("strong"), 3)
    assert torch.equal(recorded[0]["images"], default[0]["images"])
    assert not torch.equal(recorded[0]["images"], forwards[0]["images"])


def test_no_records_are_refused(linear_phantoms: Collection) -> None:
    with pytest.raises(SamplingError, match="no records to train on"):
        ImageBatches(linear_phantoms, [], 4, PLAIN)


# Labels that are shown equally often


class Numbered:
    """Stands for a collection whose images are small, and say which they are."""

    def __init__(self, records: list[Record]) -> None:
        self.brightness = {record.id: np.uint8(place) for place, record in enumerate(records)}

    def image(self, record_id: str) -> NDArray[np.uint8]:
        return np.full((2, 2), self.brightness[record_id])

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        return np.zeros((2, 2), np.uint8)


UNEVEN: dict[Label, int] = {"normal": 2, "benign": 13, "malignant": 4, "unknown": 1}


def numbered(balance: str, seed: int = 0) -> ImageBatches:
    records = made_dataset("made", UNEVEN)
    return ImageBatches(Numbered(records), records, 100, PLAIN, seed, balance=balance)  # type: ignore[arg-type]


def shown(items: ImageBatches, n_steps: int = 40) -> tuple[list[int], list[int]]:
    """How often each label, and each image, is in the first steps."""
    steps = [items[step] for step in range(n_steps)]
    labels = torch.cat([batch["labels"] for batch in steps])
    images = torch.cat([(batch["images"][:, 0, 0, 0] * 255).round().long() for batch in steps])
    return labels.bincount(minlength=len(LABELS)).tolist(), images.bincount(minlength=sum(UNEVEN.values())).tolist()


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_label_is_drawn_equally_often_and_each_image_within_its_label(seed: int) -> None:
    """By the chi-square test at 1 in 1000: 3 degrees of freedom between labels, 12 among the benign images."""
    labels, images = shown(numbered("labels", seed))
    assert sum(labels) == 4000
    assert chi_square(labels) < 16.3
    assert chi_square(images[2:15]) < 32.9


def test_every_image_is_reached_under_either_balance() -> None:
    labels, images = shown(numbered("none"))
    assert images == [200] * 20  # 200 epochs, each once
    assert labels == [400, 2600, 800, 200]
    assert min(shown(numbered("labels"))[1]) > 0


def test_a_balanced_step_does_not_depend_on_those_before_it() -> None:
    items, again = numbered("labels"), numbered("labels")
    forwards = [items[step]["images"] for step in range(4)]
    for step in reversed(range(4)):
        assert torch.equal(again[step]["images"], forwards[step])
    assert not torch.equal(forwards[0], forwards[1])
    assert not torch.equal(numbered("labels", seed=1)[0]["images"], forwards[0])


def test_images_of_a_label_can_be_augmented_in_a_way_of_their_own(linear_phantoms: Collection) -> None:
    def items(label_augmentation: dict[Label, Augmentation]) -> ImageBatches:
        return ImageBatches(linear_phantoms, linear_phantoms.records, 24, PLAIN, label_augmentation=label_augmentation)

    plain, changed = items({})[0], items({"malignant": Augmentation("strong")})[0]
    assert torch.equal(plain["labels"], changed["labels"])
    malignant = plain["labels"] == LABEL_VALUES["malignant"]
    same = torch.tensor([torch.equal(*pair) for pair in zip(plain["images"], changed["images"], strict=True)])
    assert 0 < int(malignant.sum()) < 24
    assert bool(same[~malignant].all())
    assert float(same[malignant].float().mean()) < 0.5  # every change has a chance of its own
