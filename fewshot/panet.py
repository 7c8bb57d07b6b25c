"""PANet as published: segmentation by the nearest class prototype, with prototype alignment in training."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.encoders import Encoder
from episodes.episode import Support
from fewshot.alignment import alignment_loss
from fewshot.features import Features
from fewshot.prototypes import class_prototypes, cosine_similarity, resize_logits


@dataclass(frozen=True, slots=True)
class Prototypes:
    """What PANet keeps of a support set: one vector per class, (1 + n_way, channels); index 0 is background."""

    vectors: Tensor


class PANet(nn.Module):
    """Segment by the nearest of the support set's class prototypes.

    Wang et al., "PANet: Few-shot image semantic segmentation with prototype alignment", ICCV 2019.

    Args:
        encoder: gives the features; its deepest level is matched.
        temperature: scales the cosine similarity before the softmax (20 in the paper's code).
        alignment_weight: of the alignment loss beside the segmentation loss (1 in the paper); 0 leaves it out.
    """

    trains_on = "episodes"

    def __init__(self, encoder: Encoder, *, temperature: float = 20.0, alignment_weight: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = temperature
        self.alignment_weight = alignment_weight

    def encode(self, images: Tensor) -> Features:
        """Features of images (..., 3, H, W) in [0, 1]; they do not depend on the episode."""
        leading, size = images.shape[:-3], (images.shape[-2], images.shape[-1])
        levels = self.encoder(images.reshape(-1, *images.shape[-3:]))
        return Features(tuple(level.reshape(*leading, *level.shape[1:]) for level in levels), size)

    def adapt(self, support: Support, features: Features | None = None) -> Prototypes:
        """The prototypes of a support set; `features` are its images', where they are at hand already.

        Raises:
            ValueError: if a mask is empty, or covers its whole image.
        """
        maps = (features or self.encode(support.images)).deepest
        return Prototypes(class_prototypes(maps, support.masks))

    def segment(self, images: Tensor | Features, adapted: Prototypes) -> Tensor:
        """Logits (n, 1 + n_way, H, W) of images (n, 3, H, W) or of their features; index 0 is background."""
        features = images if isinstance(images, Features) else self.encode(images)
        similarity = cosine_similarity(features.deepest, adapted.vectors)
        return resize_logits(self.temperature * similarity, features.size)

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
            Scalars: `loss` (what is minimised), its parts `segmentation` and `alignment`, and `unaligned`, the
            number of ways that had no predicted pixel to align from.
        """
        n_way, n_shot = support_images.shape[1:3]
        # One pass over all images: batch norm sees support and query alike.
        images = torch.cat([support_images.flatten(1, 2), query_images], dim=1)
        maps = self.encode(images).deepest.float()
        support_maps = maps[:, : n_way * n_shot].reshape(-1, n_way, n_shot, *maps.shape[2:])
        query_maps = maps[:, n_way * n_shot :]
        # Under mixed precision the encoder alone is narrow: 20 times a cosine of 8 bits would be coarse.
        with torch.autocast(maps.device.type, enabled=False):
            return self._match(support_maps, support_masks, query_maps, query_masks)

    def _match(
        self, support_maps: Tensor, support_masks: Tensor, query_maps: Tensor, query_masks: Tensor
    ) -> dict[str, Tensor]:
        prototypes = class_prototypes(support_maps, support_masks)
        logits = self.temperature * cosine_similarity(query_maps, prototypes)
        size = (query_masks.shape[-2], query_masks.shape[-1])
        segmentation = F.cross_entropy(resize_logits(logits, size).flatten(0, 1), query_masks.flatten(0, 1))
        losses = {"loss": segmentation, "segmentation": segmentation}
        if self.alignment_weight:
            alignment, unaligned = alignment_loss(support_maps, support_masks, query_maps, logits, self.temperature)
            losses["loss"] = segmentation + self.alignment_weight * alignment
            losses |= {"alignment": alignment, "unaligned": unaligned}
        return losses
