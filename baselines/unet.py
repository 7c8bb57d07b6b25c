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
        if len(decoder_channels) != len(skips):
            raise ValueError(
                f"decoder_channels: {len(decoder_channels)} stages for {len(skips) + 1} encoder levels;"
                f" expected {len(skips)}"
            )
        self.encoder = encoder
        inputs = (encoder.channels[-1], *decoder_channels[:-1])
        self.stages = nn.ModuleList(
            DoubleConvolution(deep + skip, out) for deep, skip, out in zip(inputs, skips, decoder_channels, strict=True)
        )
        self.head = nn.Conv2d(decoder_channels[-1], 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Lesion logits (n, H, W) of images (n, 3, H, W) in [0, 1]."""
        *skips, deepest = self.encoder(images)
        features = deepest
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            if features.shape[-2:] != skip.shape[-2:]:
                features = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            features = stage(torch.cat([features, skip], dim=1))
        logits = self.head(features).float()  # full precision from here, also under mixed precision
        logits = F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return logits.squeeze(1)

    def loss(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Training losses for images (n, 3, H, W) and lesion masks (n, H, W) in {0, 1}; `loss` is minimised."""
        return {"loss": bce_dice_loss(self(images), masks)}


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
