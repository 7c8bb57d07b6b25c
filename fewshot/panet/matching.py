"""Matching by prototypes: from a support set and a query's features to a logit per class and pixel, at one level."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot.panet.attention import SupportAttention, SupportKeys
from fewshot.panet.local_prototypes import grid_prototypes, match_several, self_support, several_cosines
from fewshot.panet.prior import PriorPrototypes
from fewshot.panet.prototypes import average_shots, cosine_similarity, pool_regions, region_weights
from fewshot.panet.scalars import Temperature


@dataclass(frozen=True, slots=True)
class Prototypes:
    """What the matching keeps of a support set; the query axis has length 1 where queries share the prototypes.

    Attributes:
        vectors: one per class, (n_episodes, n_query or 1, 1 + n_way, channels); index 0 is background.
        local: vectors of the grid's cells, (n_episodes, 1, 1 + n_way, n_prototypes, channels); None without a grid.
        valid: which of them count, (n_episodes, 1, 1 + n_way, n_prototypes); None without a grid.
    """

    vectors: Tensor
    local: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SupportMaps:
    """A support set's features as attention needs them: its prototypes wait for the query.

    Attributes:
        features: (n_episodes, n_way, n_shot, channels, h, w).
        weights: pooling weights of background and lesion, (n_episodes, n_way, n_shot, 2, h, w).
        keys: what attention compares queries with.
        local: as in `Prototypes`.
        valid: as in `Prototypes`.
    """

    features: Tensor
    weights: Tensor
    keys: SupportKeys
    local: Tensor | None
    valid: Tensor | None


class PrototypeMatcher(nn.Module):
    """Match query pixels with class prototypes by cosine; every option off is PANet's form.

    Args:
        channels: of the level's features.
        temperature: scales the cosine.
        learned_temperature: train the temperature.
        attention: weigh support pixels and shots by the query (`SupportAttention`).
        prior: start prototypes from what the sources know (`PriorPrototypes`).
        grid: cells along each side of the grid that gives further, local prototypes; 0 for none.
        self_support: match a second time, with prototypes moved towards the query's confident pixels.
    """

    def __init__(
        self,
        channels: int,
        temperature: float = 20.0,
        *,
        learned_temperature: bool = False,
        attention: bool = False,
        prior: bool = False,
        grid: int = 0,
        self_support: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learned=learned_temperature)
        self.attention = SupportAttention(channels) if attention else None
        self.prior = PriorPrototypes(channels) if prior else None
        self.grid = grid
        self.self_support = self_support

    @property
    def cosine_temperature(self) -> Tensor:
        """The cosine's factor, a scalar."""
        return self.temperature.factor

    def adapt(self, features: Tensor, masks: Tensor, kept: Tensor | None = None) -> Prototypes | SupportMaps:
        """What to keep of a support set.

        Args:
            features: (n_episodes, n_way, n_shot, channels, h, w); n_shot may be 0 with a prior.
            masks: (n_episodes, n_way, n_shot, H, W).
            kept: which episodes may use their support set, (n_episodes,) boolean; None for all. The others are left
                with the prior.

        Raises:
            ValueError: if a region is empty and there is no prior to stand in for it.
        """
        grid = (features.shape[-2], features.shape[-1])
        weights = region_weights(masks, grid, empty_is_zero=self.prior is not None)
        if kept is not None:
            weights = weights * kept.view(-1, 1, 1, 1, 1, 1)
        local, valid = None, None
        if self.grid and features.shape[2]:
            local, valid = (part.unsqueeze(1) for part in grid_prototypes(features, masks, self.grid))
            if kept is not None:
                valid = valid & kept.view(-1, 1, 1, 1)
        if self.attention is not None and features.shape[2]:
            return SupportMaps(features, weights, self.attention.read(features), local, valid)
        vectors = self._class_vectors(pool_regions(features, weights), None)
        return Prototypes(vectors.unsqueeze(1), local, valid)

    def forward(self, query: Tensor, adapted: Prototypes | SupportMaps) -> Tensor:
        """Logits (n_episodes, n_query, 1 + n_way, h, w) of query features (n_episodes, n_query, channels, h, w)."""
        prototypes = adapted if isinstance(adapted, Prototypes) else self._attend(query, adapted)
        local = None if prototypes.local is None else several_cosines(query, prototypes.local[:, :, :1])
        logits = self._match(query, prototypes.vectors, local, prototypes.valid)
        if self.self_support:
            own = self_support(query, logits, prototypes.vectors)
            logits = self._match(query, own, local, prototypes.valid)
        return logits

    def _attend(self, query: Tensor, support: SupportMaps) -> Prototypes:
        assert self.attention is not None  # noqa: S101 - support maps are kept for attention alone
        attention = self.attention(support.keys, support.weights, query)
        shots = torch.einsum("ewschx,eqwsrhx->eqwsrc", support.features, attention.weights)
        return Prototypes(self._class_vectors(shots, attention.shots), support.local, support.valid)

    def _class_vectors(self, shots: Tensor, shot_weights: Tensor | None) -> Tensor:
        """Vectors (..., 1 + n_way, channels) of shots (..., n_way, n_shot, 2, channels)."""
        if self.prior is None:
            return average_shots(shots, shot_weights)
        vectors: Tensor = self.prior(shots, shot_weights)
        return vectors

    def _match(self, query: Tensor, vectors: Tensor, local: Tensor | None, valid: Tensor | None) -> Tensor:
        """Logits by class vectors (e, q or 1, classes, channels) and the cosines with the grid's cells.

        All classes have the same cells, (e, q, 1, n_prototypes, h, w), and differ in which of them count.
        """
        factor = self.temperature.factor
        if vectors.shape[1] == 1:
            cosine = cosine_similarity(query, vectors.squeeze(1))
        else:
            cosine = cosine_similarity(query.unsqueeze(2), vectors).squeeze(2)
        if local is None or valid is None:
            return factor * cosine
        every = torch.cat([cosine.unsqueeze(3), local.expand(-1, -1, cosine.shape[2], -1, -1, -1)], dim=3)
        return factor * match_several(every, torch.cat([torch.ones_like(valid[..., :1]), valid], dim=3), factor)
