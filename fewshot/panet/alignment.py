"""Prototype alignment: the support set segmented from the query's prototypes (PANet, section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.prototypes import cosine_similarity, resize_logits


def alignment_loss(
    support_features: Tensor,
    support_masks: Tensor,
    query_features: Tensor,
    query_logits: Tensor,
    temperature: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every support image segmented by prototypes of the query's own prediction.

    Each support image is one binary task, its way against background. A way of which the query shows no predicted
    pixel has no prototype: it is left out of the sum and counted, as in the paper's code, which divides by all ways.

    Args:
        support_features: (n_episodes, n_way, n_shot, channels, h, w).
        support_masks: (n_episodes, n_way, n_shot, H, W), 0 or 1.
        query_features: (n_episodes, n_query, channels, h, w).
        query_logits: (n_episodes, n_query, 1 + n_way, h, w), on the feature grid.
        temperature: scales the cosine.

    Returns:
        The loss, a scalar averaged over episodes, ways and shots, and the number of ways left out, a scalar.
    """
    n_episodes, n_way, n_shot = support_masks.shape[:3]
    predicted = F.one_hot(query_logits.argmax(2), 1 + n_way).to(query_features.dtype)  # (e, q, h, w, 1 + way)
    area = predicted.sum((1, 2, 3))  # (e, 1 + way)
    pooled = torch.einsum("eqchw,eqhwk->ekc", query_features, predicted)
    prototypes = pooled / area.clamp_min(1).unsqueeze(-1)

    pairs = torch.stack(  # each way's own two classes: (e, way, 2, channels)
        [prototypes[:, :1].expand(-1, n_way, -1), prototypes[:, 1:]], dim=2
    )
    logits = temperature * cosine_similarity(support_features, pairs)  # (e, way, shot, 2, h, w)
    logits = resize_logits(logits, (support_masks.shape[-2], support_masks.shape[-1]))
    per_pixel = F.cross_entropy(logits.flatten(0, 2), support_masks.long().flatten(0, 2), reduction="none")
    per_image = per_pixel.mean((-2, -1)).view(n_episodes, n_way, n_shot)
    present = (area[:, 1:] > 0).to(per_image.dtype)  # (e, way)
    return (per_image.mean(-1) * present).mean(), (1 - present).sum()
