"""Options that read several encoder levels: matching at each and fusing the logits, and a U-Net's decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.blocks import expand, expanding_stages
from fewshot.features import Features
from fewshot.panet.blocks import LearnedScalars, resize_logits


@dataclass(frozen=True, slots=True)
class Matched:
    """Logits of queries, background first: by level on the finest matched grid, of the deepest on its own, and fused.

    The levels' are (n_levels, n_episodes, n_query, 1 + n_way, h, w); `fused` is their weighted mean.
    """

    levels: Tensor
    deepest: Tensor
    fused: Tensor

    def maps(self) -> Tensor:
        """Return each way's logits less background's, (n_episodes, n_query, n_way, n_maps, h, w); fused ones last."""
        logits = torch.cat([self.levels, self.fused.unsqueeze(0)]) if len(self.levels) > 1 else self.levels
        return (logits[:, :, :, 1:] - logits[:, :, :, :1]).movedim(0, 3)


class MultiLevelMatcher(nn.Module):
    """One matcher per level, prototypes or ridge, deepest level last; their logits are averaged by learned weights."""

    def __init__(self, matchers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.matchers = nn.ModuleList(matchers)
        self.shares = LearnedScalars([0.0] * len(matchers)) if len(matchers) > 1 else None

    @property
    def cosine_temperature(self) -> Tensor:
        """Return the factor of the cosine that aligns the deepest level's features, a scalar."""
        factor = self.matchers[-1].cosine_temperature
        assert isinstance(factor, Tensor)  # noqa: S101 - as every matcher has it
        return factor

    def adapt(self, levels: Sequence[Tensor], masks: Tensor, kept: Tensor | None = None) -> tuple[Any, ...]:
        """Adapt every level's matcher to a support set: see `PrototypeMatcher.adapt`, also for errors."""
        pairs: Any = zip(self.matchers, levels, strict=True)
        return tuple(matcher.adapt(level, masks, kept) for matcher, level in pairs)

    def forward(self, levels: Sequence[Tensor], adapted: Sequence[Any]) -> Matched:
        """Match query features, each (n_episodes, n_query, channels, h, w)."""
        own = [matcher(level, state) for matcher, level, state in zip(self.matchers, levels, adapted, strict=True)]
        if self.shares is None:
            return Matched(own[0].unsqueeze(0), own[0], own[0])
        grid = (own[0].shape[-2], own[0].shape[-1])
        resized = torch.stack([resize_logits(logits, grid) for logits in own])
        return Matched(resized, own[-1], torch.einsum("l,l...->...", self.shares.values.softmax(0), resized))


class SpatialDecoder(nn.Module):
    """A U-Net's expanding path (Ronneberger et al., MICCAI 2015) that is told where the support's class is.

    Every way is decoded by itself, with the same weights, so that permuting ways permutes their logits. Channels are of
    the encoder's levels, shallow to deep, stages of the decoder, deep to shallow, one fewer; `n_maps` is per way.

    Raises:
        ValueError: if the numbers of stages and levels do not go together.
    """

    def __init__(self, channels: Sequence[int], stages: Sequence[int], n_maps: int) -> None:
        super().__init__()
        self.stages = expanding_stages(channels, stages, n_maps)
        self.head = nn.Conv2d(stages[-1], 1, kernel_size=1)

    def forward(self, query: Features, maps: Tensor) -> Tensor:
        """Compute logits (n_episodes, n_query, 1 + n_way, H, W), background 0.

        The query's features have leading axes (n_episodes, n_query); maps are (n_episodes, n_query, n_way, n_maps, h,
        w).
        """
        n_way = maps.shape[2]
        levels = [level.flatten(0, 1) for level in query.levels]
        shared = [level.repeat_interleave(n_way, 0) if n_way > 1 else level for level in levels]
        logits = self.head(expand(self.stages, shared, maps.flatten(0, 2))[-1]).float()
        # The decoder corrects what the similarity says: it starts from a mask, and adapting moves that mask.
        ways = resize_logits(logits, query.size).view(*maps.shape[:3], *query.size)
        ways = ways + resize_logits(maps[:, :, :, -1], query.size)
        return torch.cat([torch.zeros_like(ways[:, :, :1]), ways], dim=2)
