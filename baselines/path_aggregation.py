"""A feature pyramid with a second way up: the neck of Path Aggregation Networks, for any encoder."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from baselines.expanding_path import resized
from baselines.prediction import Pyramid


class PathAggregation(nn.Module):
    """Top-down feature pyramid with lateral connections, then bottom-up path augmentation.

    Liu et al., "Path aggregation network for instance segmentation", CVPR 2018, section 3.1, on the feature pyramid of
    Lin et al., CVPR 2017: what fine levels know of borders reaches deep ones over a few layers in place of a hundred.

    Args:
        channels: of the encoder's levels, shallow to deep.
        strides: of these levels.
        out_channels: of every level of the pyramid; a multiple of 8.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.top_down = FeaturePyramidNetwork(list(channels), out_channels)
        steps = [max(1, deep // shallow) for shallow, deep in pairwise(strides)]
        self.down = nn.ModuleList(_convolution(out_channels, step) for step in steps)
        self.mix = nn.ModuleList(_convolution(out_channels) for _ in steps)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (n, channels, h, w), shallow to deep, as maps (n, out_channels, h, w) of the same sizes."""
        named = OrderedDict((str(place), level) for place, level in enumerate(levels))
        finest, *others = self.top_down(named).values()
        augmented = [finest]
        for down, mix, level in zip(self.down, self.mix, others, strict=True):
            augmented.append(mix(resized(down(augmented[-1]), level.shape[-2:]) + level))
        return augmented


class AggregatedEncoder(nn.Module):
    """An encoder followed by path aggregation, in the place of an encoder: every level has as many channels.

    Args:
        encoder: gives the levels.
        out_channels: of every level; a multiple of 8.

    Attributes:
        channels: of each level.
        strides: of each level, input pixels per feature pixel.
    """

    def __init__(self, encoder: Pyramid, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = PathAggregation(encoder.channels, encoder.strides, out_channels)
        self.channels = (out_channels,) * len(encoder.channels)
        self.strides = encoder.strides

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, out_channels, h, w)."""
        levels: list[Tensor] = self.neck(self.encoder(images))
        return levels


def _convolution(channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, channels),
        nn.ReLU(inplace=True),
    )
