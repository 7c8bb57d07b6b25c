"""Several prototypes per class: those of a grid's cells, and of the query's own confident pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.blocks import pool, pull_back, unit

# A cell belongs to a region that covers this share of it (ALPNet's threshold).
COVERAGE = 0.95
# The query's pixels that are taken as sure: probability of lesion and of background (SSP's thresholds).
SURE_FOREGROUND, SURE_BACKGROUND = 0.7, 0.6


def grid_prototypes(features: Tensor, masks: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Average features over the cells of a grid, each for the region that fills it.

    ALPNet, Ouyang et al., "Self-supervision with superpixels", ECCV 2020, section 3.4: local prototypes keep apart
    what one mean would mix, such as fat, glandular tissue and shadow, all of them background.

    Args:
        features: (..., n_way, n_shot, channels, h, w).
        masks: (..., n_way, n_shot, H, W), 0 or 1.
        cells: of the grid along each side; at most h and w.

    Returns:
        Vectors (..., 1 + n_way, n_way * n_shot * cells^2, channels), index 0 background, and which of them are
        prototypes of their class, (..., 1 + n_way, n_way * n_shot * cells^2): a way has those of its own images. The
        vectors are the same for every class.

    Raises:
        ValueError: if the grid has more cells along a side than the features have pixels.
    """
    *leading, n_way, _, channels, height, width = features.shape
    if cells > min(height, width):
        raise ValueError(f"grid: {cells} cells along a side of features {height}x{width}; give fewer, or larger images")
    ones = masks.new_ones(masks.shape[-2:])
    share = pull_back(masks, (height, width)) / pull_back(ones, (height, width))

    def pooled(maps: Tensor) -> Tensor:
        cell_means = F.adaptive_avg_pool2d(maps.reshape(-1, 1, height, width), cells)
        return cell_means.reshape(*maps.shape[:-2], cells * cells)

    vectors = pooled(features).movedim(-2, -1)  # (..., way, shot, cells, channels)
    inside = pooled(share)
    vectors = vectors.reshape(*leading, 1, -1, channels).expand(*leading, 1 + n_way, -1, channels)
    own = torch.eye(n_way, dtype=torch.bool, device=masks.device)
    lesion = (inside >= COVERAGE).unsqueeze(-4) & own.view(n_way, n_way, 1, 1)
    background = (1 - inside >= COVERAGE).unsqueeze(-4)
    return vectors, torch.cat([background, lesion], dim=-4).flatten(-3)


def several_cosines(features: Tensor, vectors: Tensor) -> Tensor:
    """Compare every pixel with every prototype of classes that have several.

    Features are (n_episodes, n_query, channels, h, w), vectors (n_episodes, n_query or 1, classes, n_prototypes,
    channels), and the cosines (n_episodes, n_query, classes, n_prototypes, h, w), in [-1, 1].
    """
    every = unit(vectors, -1).expand(-1, features.shape[1], -1, -1, -1)
    return torch.einsum("eqchx,eqkpc->eqkphx", unit(features, -3), every)


def match_several(cosines: Tensor, valid: Tensor, temperature: Tensor) -> Tensor:
    """Compare every pixel with every class of several prototypes (ALPNet, eq. 4 and 5).

    The prototypes' cosines, (n_episodes, n_query, classes, n_prototypes, h, w), are averaged with their own softmax as
    weights, so the nearest count most: (n_episodes, n_query, classes, h, w), in [-1, 1]. Those count that are valid,
    (n_episodes, n_query or 1, classes, n_prototypes); one per class at least.
    """
    absent = ~valid.unsqueeze(-1).unsqueeze(-1)
    shares = (temperature * cosines).masked_fill(absent, -torch.inf).softmax(3)
    return (shares * cosines).sum(3)


def self_support(features: Tensor, logits: Tensor, prototypes: Tensor) -> Tensor:
    """Move prototypes half-way towards the query's own confident pixels.

    SSP, Fan et al., "Self-support few-shot semantic segmentation", ECCV 2022, section 3.2: pixels of one image
    resemble each other more than those of another image of the same class.

    Args:
        features: (n_episodes, n_query, channels, h, w).
        logits: first prediction, (n_episodes, n_query, classes, h, w).
        prototypes: (n_episodes, n_query or 1, classes, channels).

    Returns:
        Unit vectors (n_episodes, n_query, classes, channels); where a query has no confident pixel of a class, the
        class's prototype stays as it is.
    """
    probabilities = logits.softmax(2)
    sure = probabilities > torch.tensor(
        [SURE_BACKGROUND] + [SURE_FOREGROUND] * (logits.shape[2] - 1), device=logits.device
    ).view(-1, 1, 1)
    weights = sure.to(features.dtype)
    own = pool(features, weights)
    return unit(unit(prototypes, -1) + unit(own, -1), -1)
