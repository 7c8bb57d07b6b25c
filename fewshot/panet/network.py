"""PANet, as published and complete: prototypes, alignment, and options that each answer one of its weaknesses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from baselines.blocks import expand, expanding_stages
from baselines.encoders import Encoder
from baselines.losses import ClassLoss, class_loss
from episodes.sampling.episode import Support
from fewshot.features import Features
from fewshot.panet.matching import PrototypeMatcher
from fewshot.panet.multilevel import Adapted, Matched, MultiLevelMatcher
from fewshot.panet.prototypes import alignment_loss, resize_logits
from fewshot.panet.ridge import RidgeMatcher


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


@dataclass(frozen=True, slots=True)
class _Logits:
    """What the losses look at: the similarity maps, and the logits of the images' size."""

    matched: Matched
    final: Tensor  # (n_episodes, n_query, 1 + n_way, H, W)


class PANet(nn.Module):
    """Segment by the nearest of the support set's class prototypes.

    Wang et al., "PANet: Few-shot image semantic segmentation with prototype alignment", ICCV 2019. The defaults are the
    published form; the options are described where they live: `fewshot.panet.attention`, `fewshot.panet.prior`,
    `fewshot.panet.local_prototypes`, `fewshot.panet.ridge` and `fewshot.panet.network`.

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

    trains_on = "episodes"

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
        super().__init__()
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
        self.encoder = encoder
        self.has_prior = prior
        self.alignment_weight = alignment_weight
        self.matching_weight = matching_weight
        self.support_dropout = support_dropout
        self.loss_kind: ClassLoss = loss
        self.matching = MultiLevelMatcher(
            [
                RidgeMatcher(
                    channels,
                    4.0 if temperature is None else temperature,
                    learned_temperature=learned_temperature,
                    prior=prior,
                )
                if matcher == "ridge"
                else PrototypeMatcher(
                    channels,
                    20.0 if temperature is None else temperature,
                    learned_temperature=learned_temperature,
                    attention=attention,
                    prior=prior,
                    grid=grid,
                    self_support=self_support,
                )
                for channels in encoder.channels[-matched_levels:]
            ]
        )
        self.matched_levels = matched_levels
        n_maps = matched_levels + (matched_levels > 1)
        self.decoder = SpatialDecoder(encoder.channels, decoder_channels, n_maps) if decoder_channels else None

    def encode(self, images: Tensor) -> Features:
        """Features of images (..., 3, H, W) in [0, 1]; they do not depend on the episode."""
        leading, size = images.shape[:-3], (images.shape[-2], images.shape[-1])
        levels = self.encoder(images.reshape(-1, *images.shape[-3:]))
        return Features(tuple(level.reshape(*leading, *level.shape[1:]) for level in levels), size)

    def adapt(self, support: Support | None, features: Features | None = None) -> Adapted:
        """What a support set says; `features` are its images', where they are at hand already.

        Raises:
            ValueError: if a mask is empty or covers its whole image, or there is no support set, and no prior to
                stand in; or if the features are not finite.
        """
        if support is None or not support.images.shape[1]:
            if not self.has_prior:
                raise ValueError("prototypes need a support set: this network has no prior")
            levels, masks = self._no_shots(1 if support is None else len(support.images))
        else:
            levels = [level.unsqueeze(0).float() for level in self._matched(features or self.encode(support.images))]
            masks = support.masks.unsqueeze(0)
        if not all(bool(level.isfinite().all()) for level in levels):
            raise ValueError("the encoder's features are not finite; are its weights damaged?")
        with torch.autocast(masks.device.type, enabled=False):
            adapted: Adapted = self.matching.adapt(levels, masks)
        return adapted

    def _matched(self, features: Features) -> tuple[Tensor, ...]:
        return features.levels[-self.matched_levels :]

    def _no_shots(self, n_way: int) -> tuple[list[Tensor], Tensor]:
        """Features and masks of ways without a single shot."""
        weight = next(self.parameters())
        matched = self.encoder.channels[-self.matched_levels :]
        levels = [weight.new_zeros(1, n_way, 0, channels, 1, 1) for channels in matched]
        return levels, weight.new_zeros(1, n_way, 0, 1, 1)

    def segment(self, images: Tensor | Features, adapted: Adapted) -> Tensor:
        """Logits (n, 1 + n_way, H, W) of images (n, 3, H, W) or of their features; index 0 is background."""
        features = images if isinstance(images, Features) else self.encode(images)
        return self._logits(features.unsqueeze(), adapted).final.squeeze(0)

    def loss(
        self, support_images: Tensor, support_masks: Tensor, query_images: Tensor, query_masks: Tensor
    ) -> dict[str, Tensor]:
        """Training losses of a batch of equally shaped episodes.

        Args:
            support_images: (n_episodes, n_way, n_shot, 3, H, W) in [0, 1].
            support_masks: (n_episodes, n_way, n_shot, H, W), 0 or 1.
            query_images: (n_episodes, n_query, 3, H, W) in [0, 1].
            query_masks: (n_episodes, n_query, H, W), class indices 0 to n_way.

        Returns:
            Scalars: `loss` (what is minimised), its parts `segmentation`, `matching` (with a decoder) and
            `alignment`, and `unaligned`, the number of ways that had no predicted pixel to align from.

        Raises:
            ValueError: if support and query images differ in size.
        """
        if support_images.shape[-2:] != query_images.shape[-2:]:
            raise ValueError(
                f"support images {tuple(support_images.shape[-2:])} and query images"
                f" {tuple(query_images.shape[-2:])} differ in size; resize them to one"
            )
        n_way, n_shot = support_images.shape[1:3]
        # One pass over all images: batch norm sees support and query alike.
        features = self.encode(torch.cat([support_images.flatten(1, 2), query_images], dim=1))
        queries = Features(tuple(level[:, n_way * n_shot :] for level in features.levels), features.size)
        supports = [
            level[:, : n_way * n_shot].reshape(-1, n_way, n_shot, *level.shape[2:]).float()
            for level in self._matched(features)
        ]
        with torch.autocast(query_images.device.type, enabled=False):
            kept = self._kept(len(support_images), support_images.device)
            adapted: Adapted = self.matching.adapt(supports, support_masks, kept)
        logits = self._logits(queries, adapted)
        return self._losses(logits, supports[-1], support_masks, queries.deepest.float(), query_masks)

    def _kept(self, n_episodes: int, device: torch.device) -> Tensor | None:
        if not (self.training and self.support_dropout):
            return None
        return torch.rand(n_episodes, device=device) >= self.support_dropout

    def _logits(self, queries: Features, adapted: Adapted) -> _Logits:
        """Of query features with leading axes (n_episodes, n_query)."""
        # Under mixed precision encoder and decoder alone are narrow: 20 times a cosine of 8 bits would be coarse.
        with torch.autocast(queries.deepest.device.type, enabled=False):
            levels = [level.float() for level in self._matched(queries)]
            matched: Matched = self.matching(levels, adapted)
        if self.decoder is None:
            return _Logits(matched, resize_logits(matched.fused, queries.size))
        hints = torch.cat([matched.levels, matched.fused.unsqueeze(0)]) if len(levels) > 1 else matched.levels
        maps = (hints[:, :, :, 1:] - hints[:, :, :, :1]).movedim(0, 3)  # (e, q, way, maps, h, w)
        ways = self.decoder([level.flatten(0, 1) for level in queries.levels], maps.flatten(0, 1), queries.size)
        # The decoder corrects what the similarity says: it starts from a mask, and adapting moves that mask.
        ways = ways.view(*maps.shape[:3], *queries.size) + resize_logits(maps[:, :, :, -1], queries.size)
        return _Logits(matched, torch.cat([torch.zeros_like(ways[:, :, :1]), ways], dim=2))

    def _losses(
        self, logits: _Logits, support: Tensor, support_masks: Tensor, query: Tensor, query_masks: Tensor
    ) -> dict[str, Tensor]:
        truth, size = query_masks.flatten(0, 1), (query_masks.shape[-2], query_masks.shape[-1])
        with torch.autocast(query.device.type, enabled=False):
            segmentation = class_loss(logits.final.flatten(0, 1), truth, self.loss_kind)
            losses = {"loss": segmentation, "segmentation": segmentation}
            if self.decoder is not None and self.matching_weight:
                matching = class_loss(resize_logits(logits.matched.fused, size).flatten(0, 1), truth, self.loss_kind)
                losses |= {"loss": losses["loss"] + self.matching_weight * matching, "matching": matching}
            if self.alignment_weight:
                # The features are aligned by cosine under either matcher.
                alignment, unaligned = alignment_loss(
                    support, support_masks, query, logits.matched.deepest, self.matching.cosine_temperature
                )
                losses |= {"loss": losses["loss"] + self.alignment_weight * alignment}
                losses |= {"alignment": alignment, "unaligned": unaligned}
        return losses
