"""PANet with its options, each of which answers a weakness of the published form: `network: panet`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.losses import ClassLoss, class_loss
from episodes.sampling.episode import Support
from fewshot.features import Features
from fewshot.panet.attention import SupportAttention, SupportKeys
from fewshot.panet.blocks import Temperature, both_regions, join_backgrounds, pool, pooling_weights, resize_logits
from fewshot.panet.local_prototypes import grid_prototypes, match_several, self_support, several_cosines
from fewshot.panet.multilevel import MultiLevelMatcher, SpatialDecoder
from fewshot.panet.panet import Logits, PublishedPANet, cosine_similarity
from fewshot.panet.prior import PriorPrototypes
from fewshot.panet.ridge import RidgeMatcher


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Prototypes of a support set; the query axis has length 1 where queries share them.

    There is one per class, (n_episodes, n_query or 1, 1 + n_way, channels), index 0 background. With a grid, `local`
    has vectors of its cells, (n_episodes, 1, 1, n_prototypes, channels), the same for every class, and which of them
    count for which, (n_episodes, 1, 1 + n_way, n_prototypes).
    """

    vectors: Tensor
    local: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class SupportMaps:
    """A support set's features as attention needs them: its prototypes wait for the query.

    Features are (n_episodes, n_way, n_shot, channels, h, w); pooling weights of background and lesion (n_episodes,
    n_way, n_shot, 2, h, w).
    """

    features: Tensor
    weights: Tensor
    keys: SupportKeys
    local: tuple[Tensor, Tensor] | None


class PrototypeMatcher(nn.Module):
    """Match query pixels of one encoder level with class prototypes by cosine; every option off is PANet's form.

    The options are those of `PANet`.
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
        """Return the cosine's factor, a scalar."""
        return self.temperature.factor

    def adapt(self, features: Tensor, masks: Tensor, kept: Tensor | None = None) -> Prototypes | SupportMaps:
        """Learn from a support set's features (n_episodes, n_way, n_shot, channels, h, w) and masks (..., H, W).

        The number of shots may be 0 with a prior. `kept` says which episodes may use their support set, (n_episodes,)
        boolean; the others are left with the prior.

        Raises:
            ValueError: if a region is empty and there is no prior to stand in for it.
        """
        grid = (features.shape[-2], features.shape[-1])
        weights = pooling_weights(both_regions(masks), grid, empty_is_zero=self.prior is not None)
        if kept is not None:
            weights = weights * kept.view(-1, 1, 1, 1, 1, 1)
        local = self._local(features, masks, kept)
        if self.attention is not None and features.shape[2]:
            return SupportMaps(features, weights, self.attention.read(features), local)
        shots = pool(features, weights)
        vectors = join_backgrounds(shots.mean(-3)) if self.prior is None else self.prior(shots)
        return Prototypes(vectors.unsqueeze(1), local)

    def _local(self, features: Tensor, masks: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor] | None:
        if not self.grid or not features.shape[2]:
            return None
        vectors, valid = (part.unsqueeze(1) for part in grid_prototypes(features, masks, self.grid))
        return vectors[:, :, :1], valid if kept is None else valid & kept.view(-1, 1, 1, 1)

    def forward(self, query: Tensor, adapted: Prototypes | SupportMaps) -> Tensor:
        """Match query features (n_episodes, n_query, channels, h, w): logits (n_episodes, n_query, 1 + n_way, h, w)."""
        vectors = adapted.vectors if isinstance(adapted, Prototypes) else self._attend(query, adapted)
        # The cosines with the cells are the same for all classes, which differ in the cells that count.
        local = None if adapted.local is None else (several_cosines(query, adapted.local[0]), adapted.local[1])
        logits = self._match(query, vectors, local)
        if self.self_support:
            logits = self._match(query, self_support(query, logits, vectors), local)
        return logits

    def _attend(self, query: Tensor, support: SupportMaps) -> Tensor:
        """Return the prototypes (n_episodes, n_query, 1 + n_way, channels) that attention gives each query."""
        assert self.attention is not None  # noqa: S101 - support maps are kept for attention alone
        attention = self.attention(support.keys, support.weights, query)
        shots = torch.einsum("ewschx,eqwsrhx->eqwsrc", support.features, attention.weights)
        if self.prior is None:
            return join_backgrounds(torch.einsum("...src,...s->...rc", shots, attention.shots))
        vectors: Tensor = self.prior(shots, attention.shots)
        return vectors

    def _match(self, query: Tensor, vectors: Tensor, local: tuple[Tensor, Tensor] | None) -> Tensor:
        """Compute logits by class vectors (e, q or 1, classes, channels) and cosines (e, q, 1, n_prototypes, h, w)."""
        factor = self.temperature.factor
        if vectors.shape[1] == 1:
            cosine = cosine_similarity(query, vectors.squeeze(1))
        else:
            cosine = cosine_similarity(query.unsqueeze(2), vectors).squeeze(2)
        if local is None:
            return factor * cosine
        cosines, valid = local
        every = torch.cat([cosine.unsqueeze(3), cosines.expand(-1, -1, cosine.shape[2], -1, -1, -1)], dim=3)
        return factor * match_several(every, torch.cat([torch.ones_like(valid[..., :1]), valid], dim=3), factor)


# What the matched levels' matchers keep of a support set, deepest last.
Adapted = tuple[Prototypes | SupportMaps | Tensor, ...]


@dataclass(frozen=True, slots=True)
class DecodedLogits(Logits):
    """A decoder's logits, and those that it started from: `fused`, on the finest matched grid."""

    fused: Tensor


class PANet(PublishedPANet):
    """Segment by the nearest of the support set's class prototypes.

    Wang et al., "PANet: Few-shot image semantic segmentation with prototype alignment", ICCV 2019. The defaults are the
    published form, `fewshot.panet.panet`; the options are described where they live, in the files beside it.

    Args:
        encoder: gives the features; its deepest levels are matched, and a decoder skips to the others.
        matcher: `prototypes` (cosine) or `ridge` (a linear head solved on the support set).
        temperature: scales the similarity before the softmax; None for the matcher's own (20 for the cosine, as in
            the paper's code).
        learned_temperature: train the temperature.
        alignment_weight: of the alignment loss beside the segmentation loss (1 in the paper); 0 leaves it out.
        matched_levels: how many of the encoder's deepest levels are matched; their logits are fused with learned
            weights.
        attention: weigh support pixels and shots by the query.
        prior: start from learned prototypes, so that no support set at all is a valid call.
        grid: cells along each side of the grid of local prototypes; 0 for none.
        self_support: match a second time, with prototypes moved towards the query's confident pixels.
        decoder_channels: of the decoder's stages, deep to shallow, one fewer than the encoder's levels; empty for no
            decoder, as published.
        matching_weight: of the loss on the similarity maps beside that on the decoder's masks.
        support_dropout: share of training episodes that must do without their support set; needs a prior.
        loss: cross-entropy as published, or with Dice, or focal with Dice.

    Raises:
        ValueError: for options that do not go together.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        matcher: Literal["prototypes", "ridge"] = "prototypes",
        temperature: float | None = None,
        learned_temperature: bool = False,
        alignment_weight: float = 1.0,
        matched_levels: int = 1,
        attention: bool = False,
        prior: bool = False,
        grid: int = 0,
        self_support: bool = False,
        decoder_channels: Sequence[int] = (),
        matching_weight: float = 0.4,
        support_dropout: float = 0.0,
        loss: ClassLoss = "cross-entropy",
    ) -> None:
        super().__init__(encoder, alignment_weight=alignment_weight)
        n_levels = len(encoder.channels)
        if not 1 <= matched_levels <= n_levels:
            raise ValueError(f"matched_levels is {matched_levels}; the encoder has {n_levels} levels")
        if matcher == "ridge" and (attention or grid or self_support):
            raise ValueError("matcher: ridge has no prototypes for attention, grid or self_support; turn them off")
        if grid < 0:
            raise ValueError(f"grid is {grid}; expected the cells along a side, or 0 for none")
        if not 0 <= support_dropout < 1:
            raise ValueError(f"support_dropout is {support_dropout}; expected a share from 0 to below 1")
        if support_dropout and not prior:
            raise ValueError("support_dropout: without a prior an episode needs its support set; set prior: true")
        self.has_prior = prior
        self.joins_images = matcher == "prototypes" and not (attention or prior or grid)
        self.matched_levels = matched_levels
        self.matching_weight = matching_weight
        self.support_dropout = support_dropout
        self.loss_kind = loss

        def build_matcher(channels: int) -> RidgeMatcher | PrototypeMatcher:
            shared = {"learned_temperature": learned_temperature, "prior": prior}
            if matcher == "ridge":
                return RidgeMatcher(channels, 4.0 if temperature is None else temperature, **shared)
            factor = 20.0 if temperature is None else temperature
            return PrototypeMatcher(
                channels, factor, attention=attention, grid=grid, self_support=self_support, **shared
            )

        self.matching = MultiLevelMatcher([build_matcher(channels) for channels in encoder.channels[-matched_levels:]])
        n_maps = matched_levels + (matched_levels > 1)
        self.decoder = SpatialDecoder(encoder.channels, decoder_channels, n_maps) if decoder_channels else None

    @property
    def temperature(self) -> Tensor:
        """Return the factor of the cosine that aligns the deepest level's features, a scalar."""
        return self.matching.cosine_temperature

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """Learn from a support set; `features` are its images', where they are at hand already.

        Raises:
            ValueError: if a mask is empty or covers its whole image, or there is no support set, and no prior to
                stand in; or if the features are not finite.
        """
        if support is not None and support.images.shape[1]:
            adapted: Adapted = super().adapt(support, features)
            return adapted
        if not self.has_prior:
            raise ValueError("prototypes need a support set: this network has no prior")
        weight, n_way = next(self.parameters()), 1 if support is None else len(support.images)
        channels = self.encoder.channels[-self.matched_levels :]
        levels = tuple(weight.new_zeros(1, n_way, 0, count, 1, 1) for count in channels)
        return self.learn(Features(levels, (1, 1)), weight.new_zeros(1, n_way, 0, 1, 1))

    def join(self, adapted: Sequence[Adapted]) -> Adapted:
        """Average prototypes of one image each, where the network `joins_images`: these are those of all images."""
        levels: Any = zip(*adapted, strict=True)
        return tuple(Prototypes(torch.stack([one.vectors for one in level]).mean(0)) for level in levels)

    def learn(self, support: Features, masks: Tensor) -> Adapted:
        """Adapt every matched level to support features (n_episodes, n_way, n_shot, ...) and their masks.

        In training a share of `support_dropout` of the episodes is left with the prior.
        """
        kept = None
        if self.training and self.support_dropout:
            kept = torch.rand(len(masks), device=masks.device) >= self.support_dropout
        with torch.autocast(masks.device.type, enabled=False):
            levels = [level.float() for level in support.last(self.matched_levels).levels]
            return self.matching.adapt(levels, masks, kept)

    def match(self, query: Features, prototypes: Adapted) -> Logits:
        """Match query features (n_episodes, n_query, ...) at every level, and decode them if there is a decoder."""
        # Under mixed precision encoder and decoder alone are narrow: 20 times a cosine of 8 bits would be coarse.
        with torch.autocast(query.deepest.device.type, enabled=False):
            levels = [level.float() for level in query.last(self.matched_levels).levels]
            matched = self.matching(levels, prototypes)
        if self.decoder is None:
            return Logits(matched.deepest, resize_logits(matched.fused, query.size))
        return DecodedLogits(matched.deepest, self.decoder(query, matched.maps()), matched.fused)

    def segmentation_losses(self, logits: Logits, masks: Tensor) -> dict[str, Tensor]:
        """Add to the published losses that of the similarity maps, `matching`, if there is a decoder."""
        losses = super().segmentation_losses(logits, masks)
        if isinstance(logits, DecodedLogits) and self.matching_weight:
            resized = resize_logits(logits.fused, (masks.shape[-2], masks.shape[-1]))
            matching = class_loss(resized.flatten(0, 1), masks.flatten(0, 1), self.loss_kind)
            losses |= {"loss": losses["loss"] + self.matching_weight * matching, "matching": matching}
        return losses
