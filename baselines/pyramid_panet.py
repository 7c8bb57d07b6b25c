"""The other PANet: path aggregation on a feature pyramid, here for masks of lesions."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.blocks import DoubleConvolution, resized
from baselines.losses import class_loss
from baselines.prediction import Pyramid, SegmentationNetwork, lesion_targets, mask_scores, with_background


class PathAggregation(nn.Module):
    """Top-down feature pyramid with lateral connections, then bottom-up path augmentation.

    Liu et al., "Path aggregation network for instance segmentation", CVPR 2018, section 3.1, on the feature pyramid of
    Lin et al., CVPR 2017: what fine levels know of borders reaches deep ones over a few layers in place of a hundred.
    `out_channels`, of every level of the pyramid, is a multiple of 8.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out_channels: int) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork  # two seconds, which what has no pyramid need not wait for

        self.top_down = FeaturePyramidNetwork(list(channels), out_channels)
        steps = [max(1, deep // shallow) for shallow, deep in pairwise(strides)]
        self.down = nn.ModuleList(_convolution(out_channels, step) for step in steps)
        self.mix = nn.ModuleList(_convolution(out_channels) for _ in steps)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Aggregate levels (n, channels, h, w), shallow to deep, to maps (n, out_channels, h, w) of the same sizes."""
        named = OrderedDict((str(place), level) for place, level in enumerate(levels))
        finest, *others = self.top_down(named).values()
        augmented = [finest]
        for down, mix, level in zip(self.down, self.mix, others, strict=True):
            augmented.append(mix(resized(down(augmented[-1]), level.shape[-2:]) + level))
        return augmented


class AggregatedEncoder(nn.Module):
    """An encoder followed by path aggregation, in an encoder's place; levels have `out_channels`, a multiple of 8."""

    def __init__(self, encoder: Pyramid, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = PathAggregation(encoder.channels, encoder.strides, out_channels)
        self.channels = (out_channels,) * len(encoder.channels)
        self.strides = encoder.strides

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, out_channels, h, w)."""
        levels: list[Tensor] = self.neck(self.encoder(images))
        return levels


def _convolution(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, channels),
        nn.ReLU(inplace=True),
    )


class PyramidPANet(SegmentationNetwork):
    """Path aggregation, features of all levels fused, and a coarse mask that is refined.

    The neck is that of Liu et al., CVPR 2018 (see `PathAggregation`). Adaptive feature pooling (their section 3.2) lets
    every place see all levels: here each level is convolved, brought to the finest one's size and the largest response
    taken. Channel and spatial attention (CBAM, Woo et al., ECCV 2018) weighs the result; a refinement stage then sees
    it with the coarse mask and, over a skip connection, the encoder's finest level, and corrects the mask.

    Args:
        encoder: its levels, shallow to deep.
        channels: of the pyramid; a multiple of 8.
        refine_channels: of the refinement stage; a multiple of 8.
        dropout: share of the last features' channels that training leaves out.
        loss: binary cross-entropy with Dice, or focal loss with Dice.
        coarse_weight: of the coarse mask's loss beside that of the refined one.

    Raises:
        ValueError: if the encoder has a single level, channels are no multiple of 8, or the weight is negative.
    """

    def __init__(
        self,
        encoder: Pyramid,
        *,
        channels: int = 128,
        refine_channels: int = 64,
        dropout: float = 0.0,
        loss: Literal["bce-dice", "focal-dice"] = "bce-dice",
        coarse_weight: float = 0.4,
    ) -> None:
        super().__init__()
        if len(encoder.channels) < 2:
            raise ValueError("one encoder level is no pyramid; expected at least two in `levels`")
        for name, count in (("channels", channels), ("refine_channels", refine_channels)):
            if count < 8 or count % 8:
                raise ValueError(f"{name} is {count}; expected a multiple of 8, which group norm needs")
        if coarse_weight < 0:
            raise ValueError(f"coarse_weight is {coarse_weight}; expected 0 or more")
        self.encoder = encoder
        self.neck = PathAggregation(encoder.channels, encoder.strides, channels)
        self.pool = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, kernel_size=1, bias=False), nn.GroupNorm(8, channels))
            for _ in encoder.channels
        )
        from timm.layers.cbam import CbamModule  # two seconds, which path aggregation alone need not wait for

        self.attention = CbamModule(channels)
        self.coarse_head = nn.Conv2d(channels, 1, kernel_size=1)
        self.refine = DoubleConvolution(channels + 1 + encoder.channels[0], refine_channels)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(refine_channels, 1, kernel_size=1)
        self.loss_kind: Literal["cross-entropy-dice", "focal-dice"] = (
            "cross-entropy-dice" if loss == "bce-dice" else "focal-dice"
        )
        self.coarse_weight = coarse_weight

    def forward(self, images: Tensor) -> Tensor:
        """Return lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        return self._masks(images)[1]

    def loss(self, images: Tensor, label_maps: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compute the losses of the refined and the coarse mask; see `SegmentationNetwork.loss`."""
        del labels
        (coarse, refined), masks = self._masks(images), lesion_targets(label_maps)
        of_coarse, of_refined = (
            class_loss(with_background(m), masks.long(), self.loss_kind) for m in (coarse, refined)
        )
        losses = {"loss": of_refined + self.coarse_weight * of_coarse, "segmentation": of_refined}
        return losses | mask_scores(refined, masks)

    def _masks(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return lesion logits (n, H, W), coarse and refined."""
        size = images.shape[-2:]
        levels: Sequence[Tensor] = self.encoder(images)
        pyramid: Sequence[Tensor] = self.neck(levels)
        pooled = [resized(pool(level), pyramid[0].shape[-2:]) for pool, level in zip(self.pool, pyramid, strict=True)]
        fused = self.attention(torch.stack(pooled).amax(0).relu())
        coarse = self.coarse_head(fused)
        refined = coarse + self.head(self.dropout(self.refine(torch.cat([fused, coarse, levels[0]], dim=1))))
        return resized(coarse.float(), size).squeeze(1), resized(refined.float(), size).squeeze(1)
