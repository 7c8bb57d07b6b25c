"""Prototypes: masked average pooling, cosine similarity, and the loss that aligns them."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Cosine similarity divides by the vectors' lengths; shorter ones count as this long.
EPSILON = 1e-8


def masked_average_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """Average each feature map over the pixels its mask selects (PANet, eq. 1).

    Equal to upsampling the features bilinearly to the mask's size and averaging there, but the mask is pulled back
    to the feature grid instead: bilinear upsampling is linear, so sum(upsample(F) * M) = sum(F * adjoint(M)), which
    needs no image-sized feature map and loses no small lesion.

    Args:
        features: encoder output, (..., channels, h, w).
        masks: weights in [0, 1], 1 inside the region, (..., H, W) with the same leading axes.

    Returns:
        One vector per image, (..., channels).

    Raises:
        ValueError: if the leading axes differ, or a mask is empty: an empty region has no prototype.
    """
    if features.shape[:-3] != masks.shape[:-2]:
        raise ValueError(
            f"features {tuple(features.shape)} and masks {tuple(masks.shape)} differ in their leading axes"
        )
    weights = pooling_weights(masks, (features.shape[-2], features.shape[-1]))
    return torch.einsum("...chw,...hw->...c", features, weights)


def pooling_weights(masks: Tensor, grid: tuple[int, int], *, empty_is_zero: bool = False) -> Tensor:
    """What masks (..., H, W) weigh the feature grid with (..., h, w); each image's weights sum to 1.

    Args:
        masks: weights in [0, 1].
        grid: (h, w) of the features.
        empty_is_zero: give an empty mask weights of 0, where a prior stands in for its prototype.

    Raises:
        ValueError: if a mask is empty, unless it may be.
    """
    area = masks.sum((-2, -1), keepdim=True)
    if not empty_is_zero and not bool((area > 0).all()):
        raise ValueError("a mask is empty: an empty region has no prototype")
    return pull_back(masks, grid) / area.clamp_min(EPSILON)


def region_weights(masks: Tensor, grid: tuple[int, int], *, empty_is_zero: bool = False) -> Tensor:
    """Pooling weights (..., 2, h, w) of what lies outside and inside masks (..., H, W).

    Raises:
        ValueError: if a mask is empty or covers its whole image, unless it may.
    """
    return pooling_weights(torch.stack([1 - masks, masks], dim=-3), grid, empty_is_zero=empty_is_zero)


def pool_regions(features: Tensor, weights: Tensor) -> Tensor:
    """Vectors (..., regions, channels) of features (..., channels, h, w) under weights (..., regions, h, w)."""
    return torch.einsum("...chw,...rhw->...rc", features, weights)  # all regions in one pass over the features


def pull_back(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Apply the adjoint of bilinear upsampling: masks (..., H, W) to weights on the feature grid (..., h, w).

    The weights of a mask sum to its area, since every row of the interpolation sums to 1.
    """
    rows = upsampling_matrix(grid[0], masks.shape[-2], masks.device).to(masks.dtype)
    columns = upsampling_matrix(grid[1], masks.shape[-1], masks.device).to(masks.dtype)
    return rows.T @ masks @ columns


@lru_cache(maxsize=64)
def upsampling_matrix(source: int, target: int, device: torch.device) -> Tensor:
    """The matrix (target, source) of one-dimensional bilinear interpolation, as `F.interpolate` does it."""
    # Not under inference mode: a cached matrix is used in training as well.
    with torch.inference_mode(False), torch.no_grad():
        basis = torch.eye(source, dtype=torch.float64).view(1, source, source, 1)
        matrix = F.interpolate(basis, size=(target, 1), mode="bilinear", align_corners=False)
        return matrix.view(source, target).T.contiguous().to(device=device, dtype=torch.float32)


def cosine_similarity(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every feature vector with every prototype.

    Args:
        features: (..., n, channels, h, w).
        prototypes: (..., classes, channels), with the same leading axes.

    Returns:
        (..., n, classes, h, w), in [-1, 1], large when close.
    """
    return torch.einsum("...nchw,...kc->...nkhw", unit(features, -3), unit(prototypes, -1))


def unit(vectors: Tensor, axis: int) -> Tensor:
    """The vectors along an axis at length 1; the zero vector stays zero."""
    # Not `norm`, which is seven times slower along an axis that is not the last one.
    squares = vectors.square().sum(axis, keepdim=True)
    return vectors * squares.clamp_min(EPSILON**2).rsqrt()


def class_prototypes(features: Tensor, masks: Tensor) -> Tensor:
    """Background and class prototypes of a support set, averaged over shots (PANet, section 3.2).

    A way's background is every pixel outside its mask; the background prototype averages over shots and ways.

    Args:
        features: (..., n_way, n_shot, channels, h, w).
        masks: (..., n_way, n_shot, H, W), 1 where the pixel belongs to the way's class.

    Returns:
        (..., 1 + n_way, channels); index 0 is background.

    Raises:
        ValueError: if a mask is empty, or covers its whole image.
    """
    weights = region_weights(masks, (features.shape[-2], features.shape[-1]))
    return average_shots(pool_regions(features, weights))


def average_shots(shots: Tensor, shot_weights: Tensor | None = None) -> Tensor:
    """Prototypes (..., 1 + n_way, channels) of pooled shots; the background averages over ways as well.

    Args:
        shots: (..., n_way, n_shot, 2, channels), background first.
        shot_weights: (..., n_way, n_shot), summing to 1 over shots; None for equal ones.
    """
    mean = shots.mean(-3) if shot_weights is None else torch.einsum("...src,...s->...rc", shots, shot_weights)
    return torch.cat([mean[..., 0, :].mean(-2, keepdim=True), mean[..., 1, :]], dim=-2)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample logits (..., classes, h, w) bilinearly to (..., classes, H, W)."""
    resized = F.interpolate(logits.flatten(0, -4), size=size, mode="bilinear", align_corners=False)
    return resized.reshape(*logits.shape[:-2], *size)


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
