"""PANet on one page: prototypes by masked average pooling, matching by cosine, and prototype alignment.

Wang et al., "PANet: Few-shot image semantic segmentation with prototype alignment", ICCV 2019. This is the published
form; `fewshot.panet.network` builds on it what the other files of this folder add.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.encoders import Encoder
from baselines.losses import ClassLoss, class_loss
from episodes.sampling.episode import Support
from fewshot.features import Features, all_finite
from fewshot.panet.blocks import both_regions, cosines, join_backgrounds, pool, pooling_weights, resize_logits, unit


def masked_average_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """Average feature maps over the pixels that each mask selects (the fraction in eq. 1 and 2).

    Equal to upsampling the features bilinearly to the masks' size and averaging there, but the masks are pulled back to
    the feature grid instead, by the adjoint: it takes no image-sized feature map, and loses no small lesion.

    Args:
        features: encoder output, (..., channels, h, w).
        masks: weights in [0, 1], 1 inside the region, (..., n_masks, H, W) with the same leading axes.

    Returns:
        One vector per mask, (..., n_masks, channels).

    Raises:
        ValueError: if the leading axes differ, or a mask is empty: an empty region has no prototype.
    """
    if features.shape[:-3] != masks.shape[:-3]:
        raise ValueError(f"features {tuple(features.shape)} and masks {tuple(masks.shape)} differ in leading axes")
    return pool(features, pooling_weights(masks, (features.shape[-2], features.shape[-1])))


def class_prototypes(features: Tensor, masks: Tensor) -> Tensor:
    """Average foregrounds over shots (eq. 1), and backgrounds over shots and ways (eq. 2).

    Features are (..., n_way, n_shot, channels, h, w), masks (..., n_way, n_shot, H, W), 1 where the pixel belongs to
    the way's class, neither empty nor all ones; prototypes (..., 1 + n_way, channels), index 0 background.
    """
    return join_backgrounds(masked_average_pooling(features, both_regions(masks)).mean(-3))


def cosine_similarity(features: Tensor, prototypes: Tensor) -> Tensor:
    """Compare features (..., n, channels, h, w) with prototypes (..., classes, channels) at every pixel (d in eq. 3).

    The cosines, (..., n, classes, h, w), are in [-1, 1] and large when close.
    """
    vectors = unit(prototypes, -1)
    if not torch.is_inference_mode_enabled():
        return torch.einsum("...nchw,...kc->...nkhw", unit(features, -3), vectors)
    images = vectors.unsqueeze(-3).expand(*features.shape[:-3], -1, -1)
    found = [cosines(*pair) for pair in zip(features.flatten(0, -4), images.flatten(0, -3), strict=True)]
    return torch.stack(found).view(*features.shape[:-3], *found[0].shape)


def alignment_loss(
    support_features: Tensor,
    support_masks: Tensor,
    query_features: Tensor,
    query_logits: Tensor,
    temperature: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Segment every support image by prototypes of the query's own prediction: alignment regularisation (PAR).

    Each support image is one binary task, its way against background. A way of which the query shows no predicted
    pixel has no prototype: it is left out of the sum and counted, as in the paper's code, which divides by all ways.

    Args:
        support_features: (n_episodes, n_way, n_shot, channels, h, w).
        support_masks: (n_episodes, n_way, n_shot, H, W), 0 or 1.
        query_features: (n_episodes, n_query, channels, h, w).
        query_logits: (n_episodes, n_query, 1 + n_way, h, w), on the feature grid.
        temperature: scales the cosine.

    Returns:
        The cross-entropy, averaged over episodes, ways and shots, and the number of ways left out; both scalars.
    """
    n_episodes, n_way, n_shot = support_masks.shape[:3]
    predicted = F.one_hot(query_logits.argmax(2), 1 + n_way).to(query_features.dtype)  # eq. 4: (e, q, h, w, 1 + way)
    area = predicted.sum((1, 2, 3))  # (e, 1 + way)
    pooled = torch.einsum("eqchw,eqhwk->ekc", query_features, predicted)
    prototypes = pooled / area.clamp_min(1).unsqueeze(-1)  # eq. 6

    pairs = torch.stack([prototypes[:, :1].expand(-1, n_way, -1), prototypes[:, 1:]], dim=2)  # (e, way, 2, channels)
    logits = temperature * cosine_similarity(support_features, pairs)  # (e, way, shot, 2, h, w)
    logits = resize_logits(logits, (support_masks.shape[-2], support_masks.shape[-1]))
    per_pixel = F.cross_entropy(logits.flatten(0, 2), support_masks.long().flatten(0, 2), reduction="none")
    per_image = per_pixel.mean((-2, -1)).view(n_episodes, n_way, n_shot)
    present = (area[:, 1:] > 0).to(per_image.dtype)  # (e, way)
    return (per_image.mean(-1) * present).mean(), (1 - present).sum()


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits of queries (n_episodes, n_query, 1 + n_way, ...): similarity on the feature grid, and the images' own."""

    similarity: Tensor
    final: Tensor


class PublishedPANet(nn.Module):
    """Segment by the nearest of the support set's class prototypes; trained on episodes.

    Args:
        encoder: its deepest features are compared.
        temperature: factor of the cosine before the softmax, alpha in eq. 3.
        alignment_weight: of the alignment loss; 0 leaves it out.
    """

    trains_on = "episodes"
    matched_levels = 1  # how many of the encoder's deepest levels are compared
    loss_kind: ClassLoss = "cross-entropy"

    def __init__(self, encoder: Encoder, temperature: float = 20.0, alignment_weight: float = 1.0) -> None:
        super().__init__()
        self.encoder, self._temperature, self.alignment_weight = encoder, temperature, alignment_weight

    @property
    def temperature(self) -> float | Tensor:
        """Return the factor of the cosine that aligns support and query."""
        return self._temperature

    def encode(self, images: Tensor) -> Features:
        """Compute the features of images (..., 3, H, W) in [0, 1]; they do not depend on the episode."""
        levels = self.encoder(images.reshape(-1, *images.shape[-3:]))
        features = Features(tuple(levels), (images.shape[-2], images.shape[-1]))
        return features.map(lambda level: level.reshape(*images.shape[:-3], *level.shape[1:]))

    def learn(self, support: Features, masks: Tensor) -> Any:
        """Compute the prototypes of support features (n_episodes, n_way, n_shot, ...) under their masks."""
        with torch.autocast(masks.device.type, enabled=False):
            return class_prototypes(support.deepest.float(), masks)

    def match(self, query: Features, prototypes: Any) -> Logits:
        """Compare query features (n_episodes, n_query, ...) with prototypes: eq. 3 before its softmax."""
        with torch.autocast(query.deepest.device.type, enabled=False):  # 20 times a cosine of 8 bits would be coarse
            similarity = self.temperature * cosine_similarity(query.deepest.float(), prototypes)
            return Logits(similarity, resize_logits(similarity, query.size))

    def adapt(self, support: Support, features: Features | None = None) -> Any:
        """Compute a support set's prototypes; `features` are its images', where they are at hand already.

        Raises:
            ValueError: if a mask is empty or covers its whole image, or the features are not finite.
        """
        features = features or self.encode(support.images)
        if not all(map(all_finite, features.last(self.matched_levels).levels)):
            raise ValueError("the encoder's features are not finite; are its weights damaged?")
        return self.learn(features.unsqueeze(), support.masks.unsqueeze(0))

    def segment(self, images: Tensor | Features, adapted: Any) -> Tensor:
        """Compute logits (n, 1 + n_way, H, W) of images (n, 3, H, W) or of their features; index 0 is background."""
        features = images if isinstance(images, Features) else self.encode(images)
        return self.match(features.unsqueeze(), adapted).final.squeeze(0)

    def loss(
        self, support_images: Tensor, support_masks: Tensor, query_images: Tensor, query_masks: Tensor
    ) -> dict[str, Tensor]:
        """Compute the training losses of a batch of equally shaped episodes.

        Args:
            support_images: (n_episodes, n_way, n_shot, 3, H, W) in [0, 1].
            support_masks: (n_episodes, n_way, n_shot, H, W), 0 or 1.
            query_images: (n_episodes, n_query, 3, H, W) in [0, 1]; of the support images' size.
            query_masks: (n_episodes, n_query, H, W), class indices 0 to n_way.

        Returns:
            Scalars: `loss`, its parts `segmentation` (eq. 5) and `alignment`, and `unaligned`, the ways left out.
        """
        size, query_size = (tuple(images.shape[-2:]) for images in (support_images, query_images))
        if size != query_size:
            raise ValueError(f"support images {size} and query images {query_size} differ in size; resize them to one")
        n_way, n_shot = support_images.shape[1:3]
        # One pass over all images: batch norm sees support and query alike.
        features = self.encode(torch.cat([support_images.flatten(1, 2), query_images], dim=1))
        query, matched = features.map(lambda level: level[:, n_way * n_shot :]), features.last(self.matched_levels)
        support = matched.map(lambda level: torch.unflatten(level[:, : n_way * n_shot], 1, (n_way, n_shot)).float())
        logits = self.match(query, self.learn(support, support_masks))
        with torch.autocast(query_images.device.type, enabled=False):
            losses = self.segmentation_losses(logits, query_masks)
            if self.alignment_weight:
                alignment, unaligned = alignment_loss(
                    support.deepest, support_masks, query.deepest.float(), logits.similarity, self.temperature
                )
                losses["loss"] = losses["loss"] + self.alignment_weight * alignment
                losses |= {"alignment": alignment, "unaligned": unaligned}
        return losses

    def segmentation_losses(self, logits: Logits, masks: Tensor) -> dict[str, Tensor]:
        """Compare logits with the queries' masks (n_episodes, n_query, H, W): `segmentation`, and `loss` so far."""
        loss = class_loss(logits.final.flatten(0, 1), masks.flatten(0, 1), self.loss_kind)
        return {"loss": loss, "segmentation": loss}
