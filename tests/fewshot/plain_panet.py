"""PANet in plain loops over episodes, ways and shots: the reference that the batched version is held against.

Written from the paper (Wang et al., ICCV 2019, sections 3.2 and 3.3) and the order of steps in its authors' code:
features upsampled to the mask's size, one prototype per shot, their average, 20 times the cosine, and in the
alignment every support image segmented with prototypes of the query's own prediction. In double precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 20.0


def prototype(features: Tensor, mask: Tensor) -> Tensor:
    """Of features (channels, h, w) under a mask (H, W)."""
    upsampled = upsample(features.unsqueeze(0), mask.shape)[0]
    return (upsampled * mask).sum((1, 2)) / mask.sum()


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def match(features: Tensor, prototypes: list[Tensor]) -> Tensor:
    """Logits (n, classes, h, w) of features (n, channels, h, w)."""
    distances = [
        TEMPERATURE * F.cosine_similarity(features, vector[None, :, None, None], dim=1) for vector in prototypes
    ]
    return torch.stack(distances, dim=1)


def prototypes_of(features: Tensor, masks: Tensor) -> list[Tensor]:
    """Background first, then one per way, of features (way, shot, channels, h, w) and masks (way, shot, H, W)."""
    n_way, n_shot = masks.shape[:2]
    foreground, background = [], []
    for way in range(n_way):
        shots = [prototype(features[way, shot], masks[way, shot]) for shot in range(n_shot)]
        foreground.append(sum(shots) / n_shot)
        shots = [prototype(features[way, shot], 1 - masks[way, shot]) for shot in range(n_shot)]
        background.append(sum(shots) / n_shot)
    return [sum(background) / n_way, *foreground]


def alignment(features: Tensor, masks: Tensor, query_features: Tensor, query_logits: Tensor) -> Tensor:
    """Of one episode: support (way, shot, ...), query (n_query, ...)."""
    n_way, n_shot = masks.shape[:2]
    predicted = query_logits.argmax(1)
    columns = query_features.permute(1, 0, 2, 3)  # (channels, n_query, h, w)
    loss = torch.zeros((), dtype=features.dtype)
    for way in range(n_way):
        if not (predicted == way + 1).any():
            continue
        # Background may be predicted nowhere: its prototype is then the zero vector, which resembles nothing.
        pair = [
            columns[:, predicted == label].sum(1) / max(1, int((predicted == label).sum())) for label in (0, way + 1)
        ]
        for shot in range(n_shot):
            logits = upsample(match(features[way, shot].unsqueeze(0), pair), masks.shape[-2:])
            loss = loss + F.cross_entropy(logits, masks[way, shot].long().unsqueeze(0)) / n_shot / n_way
    return loss


def segment(features: Tensor, masks: Tensor, query_features: Tensor) -> Tensor:
    """Logits (n_query, 1 + n_way, H, W) of one episode."""
    logits = match(query_features.double(), prototypes_of(features.double(), masks.double()))
    return upsample(logits, masks.shape[-2:])


def losses(features: Tensor, masks: Tensor, query_features: Tensor, query_masks: Tensor) -> tuple[Tensor, Tensor]:
    """Segmentation and alignment loss of a batch of episodes, each argument with a first axis of episodes."""
    segmentation, aligned = [], []
    features, masks, query_features = features.double(), masks.double(), query_features.double()
    for support, mask, query, truth in zip(features, masks, query_features, query_masks, strict=True):
        logits = match(query, prototypes_of(support, mask))
        segmentation.append(F.cross_entropy(upsample(logits, mask.shape[-2:]), truth))
        aligned.append(alignment(support, mask, query, logits))
    return torch.stack(segmentation).mean(), torch.stack(aligned).mean()
