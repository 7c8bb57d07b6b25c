"""A deeply supervised network that tells benign from malignant in every pixel."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from baselines.blocks import DoubleConvolution, Norm, expand, expanding_stages, resized
from baselines.losses import label_map_loss
from baselines.prediction import Prediction, Pyramid, SegmentationNetwork, lesion_logits, lesion_targets, mask_scores
from episodes.errors import UserError


class DeepResNet(SegmentationNetwork):
    """Multi-scale context, a decoder with skips and attention, and a head on every stage of it in training.

    The deepest level goes through an atrous spatial pyramid (DeepLabv3, Chen et al. 2017); each stage of the expanding
    path through channel and spatial attention (CBAM, Woo et al., ECCV 2018). In training each stage also predicts masks
    of its own (deep supervision, Lee et al., AISTATS 2015): with a ResNet's four levels down to stride 16 and 256x256
    images those are of 32x32, 64x64 and 128x128 pixels.

    Args:
        encoder: its levels, shallow to deep; a ResNet as a rule.
        decoder_channels: of the decoder's stages, deep to shallow: one fewer than the encoder's levels.
        context_channels: of the atrous pyramid.
        atrous_rates: of its dilated convolutions, in pixels of the deepest level.
        norm: of the decoder's convolutions.
        dropout: share of the last features' channels that training leaves out.
        auxiliary_weights: of the stages' losses, deep to shallow, beside that of the final masks.
        class_weights: of background, benign and malignant in the cross-entropy.
        focal: weigh down what is right already.

    Raises:
        ValueError: if the numbers of stages, levels and weights do not go together, a weight is negative, or a rate is
            below 1.
    """

    classes = ("benign", "malignant")

    def __init__(
        self,
        encoder: Pyramid,
        *,
        decoder_channels: Sequence[int] = (256, 128, 64),
        context_channels: int = 256,
        atrous_rates: Sequence[int] = (3, 6, 9),
        norm: Norm = "group",
        dropout: float = 0.0,
        auxiliary_weights: Sequence[float] = (0.2, 0.3, 0.4),
        class_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
        focal: bool = False,
    ) -> None:
        super().__init__()
        if len(encoder.channels) < 2:
            raise ValueError("one encoder level, and so nothing to skip over; expected at least two in `levels`")
        if len(auxiliary_weights) != len(decoder_channels):
            raise ValueError(
                f"auxiliary_weights: {len(auxiliary_weights)} for {len(decoder_channels)} stages; give one for each"
            )
        if min((*class_weights, *auxiliary_weights)) < 0:
            raise ValueError("class_weights and auxiliary_weights must not be negative")
        if min(atrous_rates, default=1) < 1:
            raise ValueError(f"atrous_rates: {tuple(atrous_rates)}; expected pixels from 1 up")
        n_classes = 1 + len(self.classes)
        self.encoder = encoder
        self.context = ASPP(encoder.channels[-1], list(atrous_rates), context_channels)
        stages = expanding_stages((*encoder.channels[:-1], context_channels), decoder_channels, norm=norm)
        self.stages = nn.ModuleList(
            AttendedStage(stage, channels) for stage, channels in zip(stages, decoder_channels, strict=True)
        )
        self.auxiliary = nn.ModuleList(nn.Conv2d(channels, n_classes, kernel_size=1) for channels in decoder_channels)
        self.refine = DoubleConvolution(decoder_channels[-1], decoder_channels[-1], norm)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(decoder_channels[-1], n_classes, kernel_size=1)
        self.auxiliary_weights = tuple(auxiliary_weights)
        self.focal = focal
        self.register_buffer("class_weights", torch.tensor(class_weights), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        return lesion_logits(self.predict(images).classes)

    def predict(self, images: Tensor) -> Prediction:
        """Return logits of background, benign and malignant."""
        return Prediction(self._final(self._stages(images), images.shape[-2:]))

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the losses of the final masks and of the stages'; see `SegmentationNetwork.loss`.

        A lesion of unknown kind teaches that it is one.

        Raises:
            UserError: if a batch norm of the context would be trained on a single image.
        """
        del labels
        self._require_statistics(len(images))
        stages, size = self._stages(images), images.shape[-2:]
        classes = self._final(stages, size)
        options: dict[str, Any] = {"class_weights": self.get_buffer("class_weights"), "focal": self.focal}
        final = label_map_loss(classes, label_maps, **options)
        total = final
        for head, features, weight in zip(self.auxiliary, stages, self.auxiliary_weights, strict=True):
            small = _shrunk(label_maps, features.shape[-2:])
            total = total + weight * label_map_loss(head(features).float(), small, **options)
        scores = mask_scores(lesion_logits(classes), lesion_targets(label_maps))
        return {"loss": total, "segmentation": final, **scores}

    def _require_statistics(self, n_images: int) -> None:
        """Refuse a single image: the context averages each to one pixel, which has no variance over one image."""
        norms = [module for module in self.context.modules() if isinstance(module, nn.BatchNorm2d)]
        if n_images < 2 and any(norm.training for norm in norms):
            raise UserError(
                "deep-resnet: a batch of one image has no statistics for the batch norms of its context;"
                " set train.batch_size to 2 or more, or where a single image is fine-tuned on, batch_norm to kept"
            )

    def _stages(self, images: Tensor) -> list[Tensor]:
        *skips, deepest = self.encoder(images)
        return expand(self.stages, [*skips, self.context(deepest)])

    def _final(self, stages: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return resized(self.head(self.dropout(self.refine(stages[-1]))).float(), size)


def _shrunk(label_maps: Tensor, size: Sequence[int]) -> Tensor:
    """Shrink label maps (n, H, W) to (h, w): the value in the middle of each cell."""
    return F.interpolate(label_maps.unsqueeze(1).float(), size=tuple(size), mode="nearest-exact").squeeze(1).long()


class AttendedStage(nn.Module):
    """A stage of an expanding path, its features weighed by channel and by place."""

    def __init__(self, stage: nn.Module, channels: int) -> None:
        super().__init__()
        self.stage = stage
        # The usual sixteenth would leave few channels a single hidden unit, which may start, and stay, at zero.
        self.attention = CbamModule(channels, rd_channels=max(8, channels // 16))

    def forward(self, features: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """Combine features from below with what is seen at this level: (n, channels, h, w)."""
        attended: Tensor = self.attention(self.stage(features, seen))
        return attended
