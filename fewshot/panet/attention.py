"""Attention-weighted prototypes: which support pixels and which shots matter for a query."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewshot.panet.blocks import LearnedScalars, unit


@dataclass(frozen=True, slots=True)
class Attention:
    """Weights of support pixels and of shots for each query.

    Those of pixels sum to 1 over each region's grid (or 0 for an empty one), background first, (n_episodes, n_query,
    n_way, n_shot, 2, h, w); those of shots to 1 over them, (n_episodes, n_query, n_way, n_shot).
    """

    weights: Tensor
    shots: Tensor


@dataclass(frozen=True, slots=True)
class SupportKeys:
    """Keys of support pixels, (n_episodes, n_way, n_shot, width, h, w), and unit features of shots, (..., channels)."""

    pixels: Tensor
    shots: Tensor


class SupportAttention(nn.Module):
    """Weigh support pixels and shots by what the query looks like.

    A pixel's score is the scaled dot product (Vaswani et al., NeurIPS 2017, eq. 1) of its projected unit feature with a
    projection of the query's mean unit feature, one projection for either region; a region's pixel weights are
    multiplied by the exponential of the scores and sum to 1 again. A shot's score is the cosine of its image's mean
    feature with the query's, times a learned strength. With all weights at zero every score is zero and what remains is
    the published form: plain means over pixels and shots. `width` is that of the projections.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.keys = nn.Linear(channels, width, bias=False)
        self.queries = nn.Linear(channels, 2 * width, bias=False)
        self.shot_strength = LearnedScalars([0.0])
        # Near the published form at first, but not on it: at zero the keys would learn nothing.
        nn.init.normal_(self.queries.weight, std=0.1 / math.sqrt(channels))

    def read(self, support: Tensor) -> SupportKeys:
        """Compute the keys of support features (n_episodes, n_way, n_shot, channels, h, w)."""
        directions = unit(support, -3)
        pixels = torch.einsum("ewschx,dc->ewsdhx", directions, self.keys.weight)
        return SupportKeys(pixels, unit(directions.mean((-2, -1)), -1))

    def forward(self, keys: SupportKeys, weights: Tensor, query: Tensor) -> Attention:
        """Weigh a support set's keys, which `read` gives, for each query (n_episodes, n_query, channels, h, w).

        The regions' weights are (n_episodes, n_way, n_shot, 2, h, w).
        """
        gist = unit(query, -3).mean((-2, -1))  # (e, q, channels)
        asked = self.queries(gist).unflatten(-1, (2, -1)) / math.sqrt(keys.pixels.shape[3])
        scores = torch.einsum("ewsdhx,eqrd->eqwsrhx", keys.pixels, asked)
        weights = weights.unsqueeze(1)
        # A region's largest score cancels in the division, and keeps the exponential and its sum in range.
        scores = scores.masked_fill(weights == 0, torch.finfo(scores.dtype).min)
        scores = scores - scores.detach().amax((-2, -1), keepdim=True)
        weighted = weights * scores.exp()
        total = weighted.sum((-2, -1), keepdim=True)
        # An empty region stays empty; dividing by 1 there, and not by next to nothing, keeps gradients finite.
        weighted = weighted / torch.where(total > 0, total, 1)
        likeness = torch.einsum("ewsc,eqc->eqws", keys.shots, unit(gist, -1))
        return Attention(weighted, (self.shot_strength.values * likeness).softmax(-1))
