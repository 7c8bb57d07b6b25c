"""The multitask U-Net: both losses by hand, labels that are unknown, and that it can learn both tasks."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss
from baselines.multitask_unet import MultitaskUNet
from baselines.prediction import lesion_logits
from baselines.unet import PlainEncoder

NORMAL, BENIGN, MALIGNANT, UNKNOWN = range(4)


def small_network(**options: Any) -> MultitaskUNet:
    given = {"decoder_channels": (16, 8), "hidden": (16,), "label_dropout": (0.5,), **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MultitaskUNet(Encoder("test_resnet", levels=(0, 1, 2)), **given)


def random_batch(*labels: int) -> dict[str, Tensor]:
    """An image per label; where it shows a lesion, the label map says its kind."""
    generator = torch.Generator().manual_seed(0)
    named = torch.tensor(labels)
    masks = torch.rand(len(labels), 64, 64, generator=generator) > 0.7
    images = torch.rand(len(labels), 3, 64, 64, generator=generator)
    return {"images": images, "label_maps": masks * named.view(-1, 1, 1), "labels": named}


@pytest.mark.parametrize("size", [(64, 64), (67, 45)])
def test_a_mask_and_a_label_for_every_image(size: tuple[int, int]) -> None:
    network = small_network().eval()
    prediction = network.predict(torch.rand(2, 3, *size))
    assert prediction.classes.shape == (2, 2, *size)
    assert prediction.labels is not None
    assert prediction.labels.shape == (2, 3)


def test_the_loss_is_85_parts_of_the_mask_s_and_15_of_the_label_s() -> None:
    network, batch = small_network().eval(), random_batch(NORMAL, BENIGN, MALIGNANT)
    losses, prediction = network.loss(**batch), network.predict(batch["images"])
    assert prediction.labels is not None
    segmentation = bce_dice_loss(lesion_logits(prediction.classes), (batch["label_maps"] > 0).float())
    classification = F.cross_entropy(prediction.labels, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(losses["segmentation"], segmentation)
    torch.testing.assert_close(losses["classification"], classification)
    torch.testing.assert_close(losses["loss"], 0.85 * segmentation + 0.15 * classification)
    right = (prediction.labels.argmax(1) == torch.tensor([0, 1, 2])).float().mean()
    assert losses.keys() == {"loss", "segmentation", "classification", "label_accuracy", "dice", "accuracy"}
    assert losses["label_accuracy"] == right


def test_the_weights_of_the_tasks_can_be_chosen() -> None:
    network = small_network(segmentation_weight=2.0, classification_weight=0.0).eval()
    losses = network.loss(**random_batch(BENIGN, NORMAL))
    torch.testing.assert_close(losses["loss"], 2 * losses["segmentation"])


def test_label_weights_make_a_mistake_dearer() -> None:
    network, batch = small_network(label_weights={"malignant": 3.0}).eval(), random_batch(NORMAL, MALIGNANT)
    labels = network.predict(batch["images"]).labels
    assert labels is not None
    costs = F.cross_entropy(labels, torch.tensor([0, 2]), reduction="none")
    torch.testing.assert_close(network.loss(**batch)["classification"], (costs[0] + 3 * costs[1]) / 4)


def test_unknown_labels_teach_masks_alone() -> None:
    network = small_network().eval()
    known, both = random_batch(BENIGN), random_batch(BENIGN, UNKNOWN)
    both["images"][0], both["label_maps"][0] = known["images"][0], known["label_maps"][0]
    torch.testing.assert_close(network.loss(**both)["classification"], network.loss(**known)["classification"])


def test_where_no_label_is_known_the_classifier_stays_as_it_is() -> None:
    network = small_network().train()
    losses = network.loss(**random_batch(UNKNOWN, UNKNOWN))
    losses["loss"].backward()
    assert losses["classification"] == 0
    assert math.isnan(losses["label_accuracy"].item())
    assert not any(weight.grad.any() for weight in network.classifier.parameters() if weight.grad is not None)
    assert all(bool(weight.grad.any()) for weight in network.head.parameters() if weight.grad is not None)


def test_with_two_labels_normal_images_are_unknown_to_the_classifier() -> None:
    network = small_network(labels=("malignant", "benign")).eval()
    batch = random_batch(NORMAL, BENIGN, MALIGNANT)
    labels = network.predict(batch["images"]).labels
    assert labels is not None
    assert labels.shape == (3, 2)
    expected = F.cross_entropy(labels[1:], torch.tensor([1, 0]))
    torch.testing.assert_close(network.loss(**batch)["classification"], expected)


def test_dropout_among_the_labels_is_of_training_alone() -> None:
    network, images = small_network().eval(), random_batch(BENIGN)["images"]
    assert torch.equal(network.predict(images).labels, network.predict(images).labels)  # type: ignore[arg-type]
    network.classifier.train()
    assert not torch.equal(network.predict(images).labels, network.predict(images).labels)  # type: ignore[arg-type]


def test_a_classifier_without_hidden_layers() -> None:
    network = small_network(hidden=(), label_dropout=())
    assert sum(weight.numel() for weight in network.classifier.parameters()) == (network.encoder.channels[-1] + 1) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ("benign",)}, "labels: benign; expected two or three different ones"),
        ({"labels": ("benign", "benign")}, "labels: benign, benign; expected two or three different ones"),
        ({"label_dropout": (0.5, 0.3)}, "label_dropout: 2 shares for 1 hidden layers"),
        ({"label_weights": {"benign": -1.0}}, "must not be negative"),
        ({"segmentation_weight": -1.0}, "must not be negative"),
        (
            {"labels": ("benign", "malignant"), "label_weights": {"normal": 2.0}},
            "label_weights: normal is not among the labels",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_network(**options)


def test_masks_and_labels_can_be_learned_by_heart() -> None:
    """Three images of a plain encoder: empty, with a dark lesion, with a bright one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MultitaskUNet(
            PlainEncoder(levels=(0, 1, 2), width=8, norm="group"),
            decoder_channels=(16, 8),
            norm="group",
            hidden=(16,),
            label_dropout=(0.0,),
        ).train()
    batch = random_batch(NORMAL, BENIGN, MALIGNANT)
    batch["images"] = 0.4 + 0.1 * batch["images"]
    lesions = torch.zeros(3, 64, 64, dtype=torch.bool)
    lesions[1:, 16:40, 20:44] = True
    batch["label_maps"] = lesions * batch["labels"].view(-1, 1, 1)
    batch["images"][1, :, lesions[1]] -= 0.3
    batch["images"][2, :, lesions[2]] += 0.3
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        network.loss(**batch)["loss"].backward()
        optimizer.step()
    losses = network.eval().loss(**batch)
    assert losses["label_accuracy"] == 1
    assert losses["dice"] > 0.9
