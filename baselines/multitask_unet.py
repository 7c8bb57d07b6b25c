"""A U-Net that also names what it sees: a lesion mask, and normal, benign or malignant for the whole image."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.blocks import Norm, Upsampling, initialise
from baselines.losses import bce_dice_loss, label_loss
from baselines.prediction import (
    Prediction,
    Pyramid,
    label_accuracy,
    label_indices,
    lesion_targets,
    mask_scores,
    with_background,
)
from baselines.unet import UNet

ImageLabel = Literal["normal", "benign", "malignant"]


class MultitaskUNet(UNet):
    """One encoder, two heads: a U-Net's decoder, and a classifier on the deepest features' averages.

    Args:
        encoder: its levels are the skip connections, as in `UNet`.
        decoder_channels: as in `UNet`, like `norm` and `upsampling`.
        labels: what the classifier tells apart.
        hidden: channels of its hidden layers.
        label_dropout: share of each hidden layer that training leaves out.
        segmentation_weight: of binary cross-entropy and Dice.
        classification_weight: of the labels' cross-entropy.
        label_weights: of a label in the cross-entropy, 1 where not given: `{malignant: 2}` makes missing one dearer.

    Raises:
        ValueError: if the numbers of stages and levels do not go together, there are fewer than two labels, a dropout
            is missing or no share, or a weight is negative or of no label.
    """

    def __init__(
        self,
        encoder: Pyramid,
        *,
        decoder_channels: Sequence[int] = (512, 256, 128, 64),
        upsampling: Upsampling = "transposed",
        norm: Norm = "batch",
        labels: tuple[ImageLabel, ...] = ("normal", "benign", "malignant"),
        hidden: Sequence[int] = (512, 256),
        label_dropout: Sequence[float] = (0.5, 0.3),
        segmentation_weight: float = 0.85,
        classification_weight: float = 0.15,
        label_weights: Mapping[ImageLabel, float] | None = None,
    ) -> None:
        super().__init__(encoder, decoder_channels=decoder_channels, upsampling=upsampling, norm=norm)
        label_weights = label_weights or {}
        if len(set(labels)) < max(2, len(labels)):
            raise ValueError(f"labels: {', '.join(labels)}; expected two or three different ones")
        if len(hidden) != len(label_dropout):
            raise ValueError(f"label_dropout: {len(label_dropout)} shares for {len(hidden)} hidden layers")
        if min(segmentation_weight, classification_weight, *label_weights.values()) < 0:
            raise ValueError("segmentation_weight, classification_weight and label_weights must not be negative")
        if foreign := set(label_weights) - set(labels):
            raise ValueError(f"label_weights: {', '.join(sorted(foreign))} is not among the labels")
        self.labels = labels
        self.segmentation_weight = segmentation_weight
        self.classification_weight = classification_weight
        weights = torch.tensor([label_weights.get(label, 1.0) for label in labels])
        self.register_buffer("label_weights", weights, persistent=False)
        self.classifier = classifier((encoder.channels[-1], *hidden), label_dropout, len(labels))
        initialise(self.stages)
        initialise(self.classifier)

    def predict(self, images: Tensor) -> Prediction:
        """Return logits of lesion and background, and of the labels."""
        levels = self.encoder(images)
        return Prediction(with_background(self.decode(levels, images.shape[-2:])), self.classifier(levels[-1]).float())

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the weighted sum of both tasks' losses; images of an unknown label teach masks alone.

        See `SegmentationNetwork.loss`.
        """
        levels = self.encoder(images)
        logits, masks = self.decode(levels, images.shape[-2:]), lesion_targets(label_maps)
        named, targets = self.classifier(levels[-1]).float(), label_indices(labels, self.labels)
        weights = self.get_buffer("label_weights")
        segmentation, classification = bce_dice_loss(logits, masks), label_loss(named, targets, weights)
        return {
            "loss": self.segmentation_weight * segmentation + self.classification_weight * classification,
            "segmentation": segmentation,
            "classification": classification,
            "label_accuracy": label_accuracy(named, targets),
            **mask_scores(logits, masks),
        }


def classifier(channels: Sequence[int], dropout: Sequence[float], n_labels: int) -> nn.Sequential:
    """Build global average pooling and fully connected layers: label logits of feature maps (n, channels, h, w)."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for before, after, share in zip(channels, channels[1:], dropout, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(share)]
    return nn.Sequential(*layers, nn.Linear(channels[-1], n_labels))
