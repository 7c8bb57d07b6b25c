"""A spatial decoder: from similarity maps and the query's own features to masks with sharp borders."""

from collections.abc import Sequence

from torch import Tensor, nn

from baselines.expanding_path import expand, expanding_stages
from fewshot.panet.prototypes import resize_logits


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
        self.stages = expanding_stages(channels, stages, n_maps)
        self.head = nn.Conv2d(stages[-1], 1, kernel_size=1)

    def forward(self, levels: Sequence[Tensor], maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits of each way, (n, n_way, H, W).

        Args:
            levels: the query's features, shallow to deep, each (n, channels, h, w).
            maps: similarity maps, (n, n_way, n_maps, h, w).
            size: (H, W) of the images.
        """
        n_way = maps.shape[1]
        shared = [level.repeat_interleave(n_way, 0) if n_way > 1 else level for level in levels]
        logits = self.head(expand(self.stages, shared, maps.flatten(0, 1))[-1]).float()
        return resize_logits(logits, size).view(-1, n_way, *size)
