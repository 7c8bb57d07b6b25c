"""The expanding path of a U-Net (Ronneberger et al., MICCAI 2015): from deep features to those of the finest level."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.convolutions import DoubleConvolution, Norm

Upsampling = Literal["bilinear", "transposed"]


def expanding_stages(
    channels: Sequence[int],
    stages: Sequence[int],
    n_hints: int = 0,
    *,
    upsampling: Upsampling = "bilinear",
    norm: Norm = "group",
) -> nn.ModuleList:
    """The stages of an expanding path, deep to shallow, for `expand`.

    Args:
        channels: of the encoder's levels, shallow to deep.
        stages: channels of the stages, deep to shallow: one fewer than the levels.
        n_hints: channels of the hints that every stage is shown beside its skip connection.
        upsampling: how a stage enlarges what comes from below; `transposed` convolutions, as published, or bilinear.
        norm: of the stages' convolutions.

    Raises:
        ValueError: if the numbers of stages and levels do not go together.
    """
    skips = tuple(channels)[-2::-1]
    if len(stages) != len(skips):
        raise ValueError(
            f"decoder_channels: {len(stages)} stages for {len(channels)} encoder levels; expected {len(skips)}"
        )
    inputs = (channels[-1], *stages[:-1])
    return nn.ModuleList(
        ExpandingStage(deep, skip + n_hints, out, upsampling, norm)
        for deep, skip, out in zip(inputs, skips, stages, strict=True)
    )


def expand(stages: nn.ModuleList, levels: Sequence[Tensor], hints: Tensor | None = None) -> list[Tensor]:
    """Features of every stage, deep to shallow: each sees the level it reaches, and has that level's size.

    Args:
        stages: as `expanding_stages` gives them.
        levels: an encoder's, shallow to deep, each (n, channels, h, w).
        hints: (n, n_hints, h, w), resized to every level.
    """
    *skips, features = levels
    reached = []
    for stage, skip in zip(stages, reversed(skips), strict=True):
        seen = [skip] if hints is None else [skip, resized(hints, skip.shape[-2:])]
        features = stage(features, seen)
        reached.append(features)
    return reached


class ExpandingStage(nn.Module):
    """Enlarge what comes from below, and convolve it with what is seen at this level.

    Args:
        deep: channels of what comes from below.
        seen: channels of what is seen.
        out: channels of the result.
        upsampling: `transposed` is a 2x2 convolution of stride 2 that also changes the channels.
        norm: of the convolutions.
    """

    def __init__(self, deep: int, seen: int, out: int, upsampling: Upsampling, norm: Norm) -> None:
        super().__init__()
        transposed = upsampling == "transposed"
        self.enlarge = nn.ConvTranspose2d(deep, out, kernel_size=2, stride=2) if transposed else nn.Identity()
        self.convolutions = DoubleConvolution((out if transposed else deep) + seen, out, norm)

    def forward(self, features: Tensor, seen: Sequence[Tensor]) -> Tensor:
        """Features (n, out, h, w) of those from below, and of maps (n, channels, h, w) of this level's size."""
        enlarged = resized(self.enlarge(features), seen[0].shape[-2:])
        convolved: Tensor = self.convolutions(torch.cat([enlarged, *seen], dim=1))
        return convolved


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (n, channels, h, w) stretched to (H, W), bilinearly."""
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
