"""Pairs of 3x3 convolutions: what U-Nets are made of."""

from typing import Literal

from torch import nn

Norm = Literal["group", "batch", "none"]


class DoubleConvolution(nn.Sequential):
    """Two 3x3 convolutions, each with normalisation and ReLU.

    Args:
        in_channels: of what comes in.
        out_channels: of both convolutions.
        norm: `group` does not look at other images, as fine-tuning needs it: one to five images have no batch
            statistics worth the name; `batch` is usual in training from scratch; `none` is the published U-Net.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: Norm = "group") -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=norm == "none")]
            if norm != "none":
                layers += [nn.GroupNorm(8, out_channels) if norm == "group" else nn.BatchNorm2d(out_channels)]
            layers += [nn.ReLU(inplace=True)]
        super().__init__(*layers)
