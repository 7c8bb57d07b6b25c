"""Features of a training's images that a checkpoint keeps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from episodes.sampling.episode import image_tensor
from episodes.storage.store import Collection
from fewshot.checkpoints import CheckpointError, save_checkpoint
from fewshot.inference.out_of_distribution import (
    TrainingFeatures,
    compute_training_features,
    describe,
    find_encoder,
    load_training_features,
    training_feature_tensors,
)
from fewshot.training.partition import SplitPart
from tests.fewshot.small_networks import CPU, SMALL, small_network


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return small_network("unet").eval()


@pytest.mark.parametrize("name", SMALL)
def test_every_network_has_an_encoder_that_describes_images(name: str) -> None:
    encoder = find_encoder(small_network(name).eval())
    assert encoder is not None
    with torch.inference_mode():
        found = describe(encoder(torch.rand(3, 3, 64, 64)))
    assert found.shape == (3, encoder.channels[-1])
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_distances_are_to_the_nearest_image_of_another_patient(network: nn.Module, linear_phantoms: Collection) -> None:
    found = compute_training_features(network, linear_phantoms, CPU)
    assert found is not None
    encoder = find_encoder(network)
    assert encoder is not None
    records = sorted(linear_phantoms.records, key=lambda record: record.id)
    with torch.inference_mode():
        images = (image_tensor(np.array(linear_phantoms.image(one.id))) for one in records)
        features = [describe(encoder(image[None]))[0].numpy() for image in images]
    expected = [
        min(
            float(np.linalg.norm(mine - other))
            for theirs, other in zip(records, features, strict=True)
            if theirs.patient_id != record.patient_id
        )
        for record, mine in zip(records, features, strict=True)
    ]
    np.testing.assert_allclose(found.distances, expected, atol=1e-5)
    np.testing.assert_allclose(found.features, np.stack(features), atol=1e-5)
    assert found.threshold == pytest.approx(np.quantile(expected, 0.99), abs=1e-5)


def test_of_many_images_some_that_are_spread_evenly_are_kept(
    network: nn.Module, linear_phantoms: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compute_training_features(network, linear_phantoms, CPU)
    monkeypatch.setattr("fewshot.inference.out_of_distribution.MOST_IMAGES", 6)
    some = compute_training_features(network, linear_phantoms, CPU)
    assert whole is not None
    assert some is not None
    torch.testing.assert_close(some.features, whole.features[::4])
    monkeypatch.setattr("fewshot.inference.out_of_distribution.MOST_VALUES", 3 * whole.features.shape[1])
    fewer = compute_training_features(network, linear_phantoms, CPU)
    assert fewer is not None
    assert len(fewer.features) == 3


def test_where_nothing_can_be_told_nothing_is_kept(network: nn.Module, linear_phantoms: Collection) -> None:
    patient = linear_phantoms.records[0].patient_id
    one_patient = SplitPart(linear_phantoms, (one for one in linear_phantoms.records if one.patient_id == patient))
    assert training_feature_tensors(network, one_patient, CPU) == {}
    assert training_feature_tensors(nn.Linear(2, 2), linear_phantoms, CPU) == {}
    blind = small_network("unet").eval()
    for parameter in blind.parameters():
        nn.init.zeros_(parameter)
    assert training_feature_tensors(blind, linear_phantoms, CPU) == {}


def test_it_comes_back_from_a_checkpoint(network: nn.Module, linear_phantoms: Collection, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, training_feature_tensors(network, linear_phantoms, CPU), {})
    written, read = compute_training_features(network, linear_phantoms, CPU), load_training_features(path)
    assert written is not None
    assert read is not None
    torch.testing.assert_close(read.features, written.features, atol=1e-3, rtol=0)
    assert read.threshold == written.threshold
    save_checkpoint(path, {}, {})
    assert load_training_features(path) is None


UNIT = torch.eye(4)


@pytest.mark.parametrize(
    "tensors",
    [
        {"familiar.features": UNIT},
        {"familiar.features": UNIT, "familiar.distances": torch.ones(3)},
        {"familiar.features": UNIT, "familiar.distances": torch.zeros(4)},
        {"familiar.features": UNIT[0], "familiar.distances": torch.ones(4)},
        {"familiar.features": torch.zeros(0, 4), "familiar.distances": torch.zeros(0)},
    ],
)
def test_what_is_damaged_is_told(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, tensors, {})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: what it says of its training images is damaged"):
        load_training_features(path)


def test_the_threshold_is_what_one_in_a_hundred_exceeds() -> None:
    distances = torch.arange(1, 102) / 101
    assert TrainingFeatures(torch.zeros(101, 2), distances).threshold == pytest.approx(100 / 101)
