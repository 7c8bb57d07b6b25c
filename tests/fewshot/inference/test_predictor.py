"""What is said of each image, of every kind of method and of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.records import LABEL_VALUES
from episodes.storage.store import Collection
from fewshot.api import Adaptable, load
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.inference.out_of_distribution import training_feature_tensors
from fewshot.inference.predictor import BatchPrediction
from tests.fewshot.conftest import Trained
from tests.fewshot.small_networks import CPU, SMALL


@pytest.fixture(scope="module")
def model(
    trained: Callable[[str], Trained], linear_phantoms: Collection, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Adaptable]:
    """Trained networks as their checkpoints are loaded."""

    def make(name: str, *, known: bool = True, **options: Any) -> Adaptable:
        encoder, head = SMALL[name]
        network = trained(name).network.eval()
        facts = {"encoder": encoder.model_dump(mode="json"), "model": head.model_dump(mode="json"), "image_size": 64}
        path: Path = tmp_path_factory.mktemp("models") / f"{name}.safetensors"
        seen = training_feature_tensors(network, linear_phantoms, CPU) if known else {}
        save_checkpoint(path, network_tensors(network) | seen, facts)
        return load(path, device="cpu", **options)

    return make


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def annotated(portable: Collection) -> tuple[list[np.ndarray], list[np.ndarray]]:
    ids = [record.id for record in portable.records if record.has_lesion][:2]
    return [portable.image(one) for one in ids], [portable.label_map(one) > 0 for one in ids]


SIZES = ((64, 64), (50, 90), (130, 70), (64, 64), (20, 30))


@pytest.mark.parametrize("name", ["panet", "maml", "unet", "multitask-unet", "deep-resnet", "pyramid-panet"])
def test_masks_and_probabilities_are_those_of_the_other_calls(
    model: Callable[..., Adaptable], name: str, portable_phantoms: Collection
) -> None:
    adaptable = model(name)
    support = annotated(portable_phantoms) if adaptable.method.uses_support else ()
    segmenter = adaptable.adapt(*support)
    images = [*pictures(*SIZES), portable_phantoms.image(portable_phantoms.records[3].id)]
    found = list(segmenter.predict(images))
    for one, image, mask, probability in zip(
        found, images, segmenter.masks(images), segmenter.probabilities(images), strict=True
    ):
        assert one.mask.shape == one.probability.shape == image.shape
        np.testing.assert_array_equal(one.mask, mask)
        np.testing.assert_array_equal(one.probability, probability)
        assert one.working.mask.shape == (64, 64)
        assert one.novelty is not None
        if image.shape == (64, 64):
            np.testing.assert_array_equal(one.working.mask, mask)


def test_classes_are_told_apart_within_the_mask(model: Callable[..., Adaptable], linear_phantoms: Collection) -> None:
    images = [linear_phantoms.image(record.id) for record in linear_phantoms.records[:6]] + pictures((40, 100))
    for name in ("deep-resnet", "multitask-unet"):
        found = list(model(name).adapt().predict(images))
        maps = [one.label_map for one in found]
        if name == "multitask-unet":
            assert maps == [None] * len(images)
            assert {tuple(one.labels) for one in found} == {("benign", "malignant")}
            assert [sum(one.labels.values()) for one in found] == pytest.approx([1] * len(images))
        else:
            assert all(one.labels == {} for one in found)
            for one in found:
                assert one.label_map is not None
                np.testing.assert_array_equal(one.label_map > 0, one.mask)
            assert {value for one in maps if one is not None for value in np.unique(one)} <= {
                0,
                LABEL_VALUES["benign"],
                LABEL_VALUES["malignant"],
            }


def test_novelty_is_the_same_from_a_fine_tuned_network(
    model: Callable[..., Adaptable], portable_phantoms: Collection
) -> None:
    images = pictures((64, 64), (70, 50))
    plain = [one.novelty for one in model("unet").adapt().predict(images)]
    tuned = model("unet", method="fine-tuned", steps=2, prior_shots=0.0).adapt(*annotated(portable_phantoms))
    flipped = model("unet", flips=True).adapt()
    assert [one.novelty for one in tuned.predict(images)] == pytest.approx(plain, abs=1e-4)
    assert [one.novelty for one in flipped.predict(images)] == pytest.approx(plain, abs=1e-4)
    assert all(value is not None and value > 1 for value in plain)  # noise, of which no training image has any


def test_an_image_of_the_support_set_is_no_news(model: Callable[..., Adaptable], portable_phantoms: Collection) -> None:
    support = annotated(portable_phantoms)
    (found,) = model("panet").adapt(*support).predict(support[0][:1])
    assert found.novelty is not None
    assert found.novelty < 0.05


def test_without_what_was_trained_on_novelty_is_unknown(model: Callable[..., Adaptable]) -> None:
    (found,) = model("unet", known=False).adapt().predict(pictures((64, 64)))
    assert found.novelty is None
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("size", [(16, 20), (40, 33), (16, 50), (9, 12), (9, 50)])
def test_one_logit_stretched_is_both_stretched(size: tuple[int, int]) -> None:
    """Against the softmax of both channels, antialiased whether they shrink or not."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 2, 16, 20, generator=generator, dtype=torch.float64)
    found = BatchPrediction(logits, None, (), torch.zeros(2, 0), ()).at_size(1, size)
    both = torch.nn.functional.interpolate(logits[1:], size=size, mode="bilinear", antialias=True)[0]
    np.testing.assert_allclose(found.probability, both.softmax(0)[1].numpy(), atol=1e-6)
    np.testing.assert_array_equal(found.mask, (both[1] > both[0]).numpy())
    np.testing.assert_array_equal(found.working.mask, (logits[1, 1] > logits[1, 0]).numpy())
