"""From probabilities to masks of lesions and of their kinds, as many images at once as memory has room for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.errors import UserError
from episodes.storage.store import Store
from fewshot.inference.members import ImagePrediction, Member, load_members, predict_records
from tests.fewshot.evaluate.conftest import write_checkpoint
from tests.fewshot.scarce_memory import Scarce, room_for_images

CPU = torch.device("cpu")


def test_every_pixel_of_a_lesion_has_a_kind_and_no_other_pixel_has() -> None:
    """The first pixel is a lesion of undecided kind, although background alone is its most probable class."""
    background, benign, malignant = [0.4, 0.6, 0.1], [0.35, 0.35, 0.1], [0.25, 0.05, 0.8]
    classes = np.array([[background], [benign], [malignant]], np.float32)
    none, zeros = np.zeros(0, np.float32), np.zeros((1, 3), np.float32)
    prediction = ImagePrediction(classes, 1 - classes[0], none, zeros, zeros, 1)
    assert prediction.mask.tolist() == [[True, False, True]]
    assert prediction.class_map.tolist() == [[1, 0, 2]]
    assert prediction.class_map.dtype == np.uint8


@pytest.fixture
def member(tmp_path: Path) -> Member:
    """A U-Net as it is."""
    path = write_checkpoint(tmp_path / "unet.safetensors", "unet")
    (loaded,) = load_members([path], None, {}, CPU, with_support=False)
    return loaded.after(None)


def test_fewer_images_are_predicted_at_once_where_memory_is_scarce(member: Member, store: Store) -> None:
    records, scarce = store.records[:10], Scarce(1)
    seen: list[tuple[int, int]] = []
    expected = predict_records([member], store, records, CPU)
    with room_for_images(member.adapted, scarce):
        found = predict_records([member], store, records, CPU, progress=lambda done, total: seen.append((done, total)))
    assert scarce.tried == [4, 2, *[1] * 10]
    assert seen == [(done, 10) for done in range(1, 11)]
    for left, right in zip(found.images, expected.images, strict=True):
        assert left.record == right.record
        assert left.entropy == pytest.approx(right.entropy, rel=1e-4)
        np.testing.assert_allclose(left.lesion_counts, right.lesion_counts, atol=2)  # a pixel on the brink


def test_no_room_for_a_single_image_is_an_error(member: Member, store: Store) -> None:
    with (
        room_for_images(member.adapted, Scarce(0)),
        pytest.raises(UserError, match=r"^out of memory: cpu, one image at a time; set a smaller image_size"),
    ):
        predict_records([member], store, store.records, CPU)
