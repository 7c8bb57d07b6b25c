"""From probabilities to masks of lesions and of their kinds, as many images at once as memory has room for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from episodes.errors import UserError
from episodes.storage.store import Store
from fewshot.inference.loading import adapt_ensemble, load_ensemble
from fewshot.inference.predictor import EnsemblePrediction, Predictor
from tests.fewshot.evaluate.conftest import write_checkpoint
from tests.fewshot.scarce_memory import Scarce, room_for_images

CPU = torch.device("cpu")


def test_every_pixel_of_a_lesion_has_a_kind_and_no_other_pixel_has() -> None:
    """The first pixel is a lesion of undecided kind, although background alone is its most probable class."""
    background, benign, malignant = [0.4, 0.6, 0.1], [0.35, 0.35, 0.1], [0.25, 0.05, 0.8]
    classes = np.array([[background], [benign], [malignant]], np.float32)
    none, zeros = np.zeros(0, np.float32), np.zeros((1, 3), np.float32)
    prediction = EnsemblePrediction(classes, 1 - classes[0], none, zeros, zeros, 1)
    assert prediction.mask.tolist() == [[True, False, True]]
    assert prediction.class_map.tolist() == [[1, 0, 2]]
    assert prediction.class_map.dtype == np.uint8


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    """A U-Net as it is."""
    path = write_checkpoint(tmp_path / "unet.safetensors", "unet")
    return adapt_ensemble(load_ensemble([path], None, {}, CPU, with_support=False), None)


def test_fewer_images_are_predicted_at_once_where_memory_is_scarce(predictor: Predictor, store: Store) -> None:
    records, scarce = store.records[:10], Scarce(1)
    expected = list(predictor.predict_records(store, records))
    with room_for_images(predictor.members[0].adapted, scarce):
        found = list(predictor.predict_records(store, records))
    assert scarce.tried == [4, 2, *[1] * 10]
    assert [batch for batch, _ in found] == [[record] for record in records]
    assert [record for batch, _ in expected for record in batch] == list(records)
    wanted = [one for _, predictions in expected for one in predictions]
    for (_, (left,)), right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(left.lesion, right.lesion, atol=1e-5)
        np.testing.assert_allclose(left.entropy, right.entropy, atol=1e-4)


def test_no_room_for_a_single_image_is_an_error(predictor: Predictor, store: Store) -> None:
    with (
        room_for_images(predictor.members[0].adapted, Scarce(0)),
        pytest.raises(UserError, match=r"^out of memory: cpu, one image at a time; set a smaller image_size"),
    ):
        list(predictor.predict_records(store, store.records))
