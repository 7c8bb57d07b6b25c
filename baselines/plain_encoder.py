"""The contracting path of the published U-Net, as an encoder: trained from random weights, on grey images."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from baselines.convolutions import DoubleConvolution, Norm
from baselines.initialisation import initialise


class PlainEncoder(nn.Module):
    """Pairs of 3x3 convolutions with 2x2 max pooling between them, channels doubling (Ronneberger et al., MICCAI 2015).

    Takes images in [0, 1] and looks at their first channel: ultrasound is grey. The counterpart of `Encoder`, whose
    networks come pretrained.

    Args:
        levels: which feature maps to give, rising from 0, which has the image's size; level i has a stride of 2**i.
        width: channels of level 0; 64 as published.
        norm: of the convolutions; `none` as published.

    Attributes:
        channels: of each level.
        strides: of each level, input pixels per feature pixel.

    Raises:
        ValueError: if the levels do not rise from 0 or more, the width is below 1, or no multiple of 8 with group norm.
    """

    def __init__(self, *, levels: Sequence[int] = (0, 1, 2, 3, 4), width: int = 64, norm: Norm = "none") -> None:
        super().__init__()
        if not levels or list(levels) != sorted(set(levels)) or levels[0] < 0:
            raise ValueError(f"levels {tuple(levels)} do not rise from 0 or more, such as (0, 1, 2, 3, 4)")
        if width < 1:
            raise ValueError(f"width is {width}; expected at least 1 channel")
        if norm == "group" and width % 8:
            raise ValueError(f"width is {width}; expected a multiple of 8, which group norm needs")
        widths = [1, *(width * 2**level for level in range(levels[-1] + 1))]
        self.blocks = nn.ModuleList(DoubleConvolution(before, after, norm) for before, after in pairwise(widths))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # a last odd row or column is not lost
        self.levels = tuple(levels)
        self.channels = tuple(widths[level + 1] for level in levels)
        self.strides = tuple(2**level for level in levels)
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (n, 3, H, W) in [0, 1], shallow to deep, each (n, channels, h, w)."""
        features = (images[:, :1] - 0.5) / 0.25
        given = []
        for level, block in enumerate(self.blocks):
            features = block(features if level == 0 else self.pool(features))
            given.append(features)
        return [given[level] for level in self.levels]
