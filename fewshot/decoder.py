"""A spatial decoder: from similarity maps and the query's own features to masks with sharp borders."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.unet import DoubleConvolution


class SpatialDecoder(nn.Module):
    """A U-Net's expanding path (Ronneberger et al., MICCAI 2015) that is told where the support's class is.

    Every way is decoded by itself, with the same weights, so that permuting ways permutes their logits.

    Args:
        channels: of the encoder's levels, shallow to deep.
        stages: channels of the decoder's stages, deep to shallow: one fewer than the levels.
        n_maps: similarity maps per way.

    Raises:
        ValueError: if the numbers of stages and levels do not go together.
    """

    def __init__(self, channels: Sequence[int], stages: Sequence[int], n_maps: int) -> None:
        super().__init__()
        skips = tuple(channels)[-2::-1]
        if len(stages) != len(skips):
            raise ValueError(
                f"decoder_channels: {len(stages)} stages for {len(channels)} encoder levels; expected {len(skips)}"
            )
        inputs = (channels[-1], *stages[:-1])
        self.stages = nn.ModuleList(
            DoubleConvolution(deep + skip + n_maps, out) for deep, skip, out in zip(inputs, skips, stages, strict=True)
        )
        self.head = nn.Conv2d(stages[-1], 1, kernel_size=1)

    def forward(self, levels: Sequence[Tensor], maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of each way, (n, n_way, H, W).

        Args:
            levels: the query's features, shallow to deep, each (n, channels, h, w).
            maps: similarity maps, (n, n_way, n_maps, h, w).
            size: (H, W) of the images.
        """
        n_way = maps.shape[1]
        *skips, deepest = [level.repeat_interleave(n_way, 0) if n_way > 1 else level for level in levels]
        hints = maps.flatten(0, 1)
        features = deepest
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            grid = skip.shape[-2:]
            features = stage(torch.cat([_resized(features, grid), skip, _resized(hints, grid)], dim=1))
        logits: Tensor = _resized(self.head(features).float(), size)
        return logits.view(-1, n_way, *size)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
