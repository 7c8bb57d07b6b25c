"""U-Net (Ronneberger et al., MICCAI 2015) on a feature pyramid: lesion against background."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.losses import bce_dice_loss


class UNet(nn.Module):
    """A decoder with skip connections over an encoder's levels, and one logit per pixel.

    Args:
        encoder: its levels, shallow to deep, are the contracting path.
        decoder_channels: of the decoder's stages, deep to shallow: one fewer than the encoder's levels.

    Raises:
        ValueError: if the numbers of stages and levels do not go together.
    """

    trains_on = "images"

    def __init__(self, encoder: Encoder, *, decoder_channels: Sequence[int] = (128, 64, 32)) -> None:
        super().__init__()
        skips = encoder.channels[-2::-1]
        if not skips:
            raise ValueError("one encoder level, and so nothing to skip over; expected at least two in `levels`")
        self.encoder = encoder
        self.stages = expanding_stages(encoder.channels, decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        features = expand(self.stages, self.encoder(images))
        logits = self.head(features).float()  # full precision from here, also under mixed precision
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits.squeeze(1)

    def loss(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Training losses for images (n, 3, H, W) and lesion masks (n, H, W) in {0, 1}; `loss` is minimised."""
        return {"loss": bce_dice_loss(self(images), masks)}


def expanding_stages(channels: Sequence[int], stages: Sequence[int], n_hints: int = 0) -> nn.ModuleList:
    """The stages of an expanding path, deep to shallow, for `expand`.

    Args:
        channels: of the encoder's levels, shallow to deep.
        stages: channels of the stages, deep to shallow: one fewer than the levels.
        n_hints: channels of the hints that every stage is shown beside its skip connection.

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
        DoubleConvolution(deep + skip + n_hints, out) for deep, skip, out in zip(inputs, skips, stages, strict=True)
    )


def expand(stages: nn.ModuleList, levels: Sequence[Tensor], hints: Tensor | None = None) -> Tensor:
    """Features of the shallowest level's size: from deep to shallow, each stage sees the level it reaches.

    Args:
        stages: as `expanding_stages` gives them.
        levels: an encoder's, shallow to deep, each (n, channels, h, w).
        hints: (n, n_hints, h, w), resized to every level.
    """
    *skips, features = levels
    for stage, skip in zip(stages, reversed(skips), strict=True):
        seen = [features, skip] if hints is None else [features, skip, hints]
        features = stage(torch.cat([_resized(part, skip.shape[-2:]) for part in seen], dim=1))
    return features


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with normalisation and ReLU.

    Group normalisation, not batch normalisation: fine-tuning sees one to five images, whose batch statistics would
    not be those of other images.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False),
                nn.GroupNorm(8, out_channels),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)
