"""Matching at several encoder levels, and the fusion of what they say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from fewshot.panet.matching import PrototypeMatcher, Prototypes, SupportMaps
from fewshot.panet.prototypes import resize_logits
from fewshot.panet.ridge import RidgeMatcher, RidgeWeights
from fewshot.panet.scalars import LearnedScalars

Matcher = PrototypeMatcher | RidgeMatcher


@dataclass(frozen=True, slots=True)
class Adapted:
    """What is kept of a support set: what each matched level's matcher keeps, deepest last."""

    levels: tuple[Prototypes | SupportMaps | RidgeWeights, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """Logits of queries, background first.

    Attributes:
        levels: of each level on the finest matched grid, (n_levels, n_episodes, n_query, 1 + n_way, h, w).
        deepest: of the deepest level on its own grid.
        fused: their weighted mean, (n_episodes, n_query, 1 + n_way, h, w).
    """

    levels: Tensor
    deepest: Tensor
    fused: Tensor


class MultiLevelMatcher(nn.Module):
    """One matcher per level, their logits averaged with learned weights.

    Args:
        matchers: of the encoder's deepest levels, deepest last.
    """

    def __init__(self, matchers: Sequence[Matcher]) -> None:
        super().__init__()
        self.matchers = nn.ModuleList(matchers)
        self.shares = LearnedScalars([0.0] * len(matchers)) if len(matchers) > 1 else None

    @property
    def cosine_temperature(self) -> Tensor:
        """What the deepest level's features are aligned with, a scalar."""
        return cast(Matcher, self.matchers[-1]).cosine_temperature

    def adapt(self, levels: Sequence[Tensor], masks: Tensor, kept: Tensor | None = None) -> Adapted:
        """Adapt every level's matcher to a support set.

        Args:
            levels: features, each (n_episodes, n_way, n_shot, channels, h, w).
            masks: (n_episodes, n_way, n_shot, H, W).
            kept: which episodes may use their support set; None for all.

        Raises:
            ValueError: as `PrototypeMatcher.adapt`.
        """
        return Adapted(
            tuple(
                cast(Matcher, matcher).adapt(level, masks, kept)
                for matcher, level in zip(self.matchers, levels, strict=True)
            )
        )

    def forward(self, levels: Sequence[Tensor], adapted: Adapted) -> Matched:
        """Match query features, each (n_episodes, n_query, channels, h, w)."""
        own = [
            matcher(level, state) for matcher, level, state in zip(self.matchers, levels, adapted.levels, strict=True)
        ]
        grid = (own[0].shape[-2], own[0].shape[-1])
        resized = torch.stack([resize_logits(logits, grid) for logits in own])
        if self.shares is None:
            return Matched(resized, own[-1], resized[0])
        return Matched(resized, own[-1], torch.einsum("l,l...->...", self.shares.values.softmax(0), resized))
