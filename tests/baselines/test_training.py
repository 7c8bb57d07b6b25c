"""Supervised batches: every image once per epoch, in an order and with changes that (seed, step) alone decide."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from baselines.training import ImageBatches
from episodes.episode import class_mask, image_tensor
from episodes.errors import SamplingError
from episodes.store import Collection
from episodes.transforms import Augmentation
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


def test_a_batch_holds_images_and_lesion_masks(linear_phantoms: Collection) -> None:
    batch = batches(linear_phantoms)[0]
    assert batch["images"].shape == (4, 3, 64, 64)
    assert batch["masks"].shape == (4, 64, 64)
    assert batch["images"].dtype == batch["masks"].dtype == torch.float32
    for image, mask, name in zip(*batch.values(), ids_of(batches(linear_phantoms), 0, 1), strict=True):
        assert torch.equal(image, image_tensor(linear_phantoms.image(name).copy()))
        assert torch.equal(mask.bool(), torch.from_numpy(class_mask(linear_phantoms.label_map(name), "lesion")))


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
    bright, masks = batch["images"][:, 0] > 0.2, batch["masks"].bool()
    overlap = 2 * (bright & masks).sum((1, 2)) / (bright.sum((1, 2)) + masks.sum((1, 2)))
    assert float(overlap.min()) > 0.9
    assert len({mask.numpy().tobytes() for mask in masks}) > 4


class Flat(BrightLesions):
    """Every image the same."""

    def label_map(self, record_id: str) -> NDArray[np.uint8]:
        label_map = np.zeros((64, 64), np.uint8)
        label_map[20:40, 12:36] = 1
        return label_map


def test_every_image_has_a_random_scanner_of_its_own() -> None:
    records = made_dataset("made", {"benign": 4})
    items = ImageBatches(Flat(), records, 8, PLAIN, scanner="random")  # type: ignore[arg-type]
    batch = items[0]
    assert len({image.numpy().tobytes() for image in batch["images"]}) == 8  # also the second visit's
    assert len({int(mask.sum()) for mask in batch["masks"]}) > 5  # each with its own magnification
    assert torch.equal(batch["masks"], (batch["masks"] > 0).float())


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
