"""Images that are unlike everything that a model knows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection
from fewshot.checkpoints import CheckpointError, save_checkpoint
from fewshot.inference.out_of_distribution import (
    NoveltyDetector,
    describe,
    find_encoder,
    load_novelty_detector,
    training_feature_tensors,
)
from tests.fewshot.small_networks import CPU, small_network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network("unet").eval()


@pytest.fixture(scope="module")
def detector(
    network: nn.Module, linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory
) -> NoveltyDetector:
    path = tmp_path_factory.mktemp("detector") / "a.safetensors"
    save_checkpoint(path, training_feature_tensors(network, linear_phantoms, CPU), {})
    found = load_novelty_detector(path, network, CPU)
    assert found is not None
    return found


def novelty(detector: NoveltyDetector, images: np.ndarray) -> list[float]:
    with torch.inference_mode():
        found: list[float] = detector.novelty(detector.encoder(image_tensor(images))).tolist()
    return found


def test_training_images_are_known_and_noise_is_not(detector: NoveltyDetector, linear_phantoms: Collection) -> None:
    known = np.array(linear_phantoms.stores[0].images[:])
    assert max(novelty(detector, known)) < 0.1  # but for the rounding of what is kept
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    assert min(novelty(detector, noise)) > 1


def test_novelty_by_hand() -> None:
    encoder = find_encoder(small_network("unet"))
    assert encoder is not None
    detector = NoveltyDetector(encoder, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), threshold=0.5)
    levels = [torch.tensor([[3.0, 0.0], [1.0, 1.0]])[:, :, None, None]]
    expected = [0, np.hypot(1 - np.sqrt(0.5), np.sqrt(0.5)) / 0.5]
    assert detector.novelty(levels).tolist() == pytest.approx(expected, abs=1e-6)


def test_support_images_are_known_from_then_on(detector: NoveltyDetector, portable_phantoms: Collection) -> None:
    images = np.array(portable_phantoms.stores[0].images[:2])
    before = novelty(detector, images)
    joined = detector.including(detector.encoder(image_tensor(images[:1])))
    assert novelty(joined, images)[0] < 1e-3 < before[0]
    assert novelty(joined, images)[1] <= before[1]
    assert novelty(detector, images) == before


def test_another_network_s_images_are_told(detector: NoveltyDetector, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"familiar.features": torch.eye(4), "familiar.distances": torch.ones(4)}, {})
    with pytest.raises(CheckpointError, match="describes its training images otherwise than its network"):
        load_novelty_detector(path, small_network("unet"), CPU)
    save_checkpoint(path, {}, {})
    assert load_novelty_detector(path, small_network("unet"), CPU) is None


def test_it_is_described_as_the_training_did(detector: NoveltyDetector, linear_phantoms: Collection) -> None:
    image = np.array(linear_phantoms.image(min(record.id for record in linear_phantoms.records)))
    with torch.inference_mode():
        found = describe(detector.encoder(image_tensor(image)[None]))
    torch.testing.assert_close(found[0], detector.known[0], atol=1e-3, rtol=0)
