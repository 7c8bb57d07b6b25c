"""Prior prototypes, learned on the sources and moved by the support set's number and agreement."""

import math

import torch
from torch import Tensor, nn

from fewshot.panet.blocks import LearnedScalars, unit


class PriorPrototypes(nn.Module):
    """A learned direction for background and for lesion, and how many shots each is worth.

    "Lesion" is no new class on a new scanner, so a class's prototype is known before the first annotated image. Seen
    as directions with von Mises-Fisher noise of equal concentration, a prior direction m that is worth kappa shots
    and shots of direction u_1 ... u_K give the posterior mean direction (Mardia & Jupp, Directional Statistics,
    2000, section 12.3.2)

        kappa m + u_1 + ... + u_K,

    of which only the direction matters. The sum's length is K when the shots agree and less when they do not: the
    support set moves the prototype by its number and its agreement. With K = 0 the prior remains: a valid,
    zero-shot call. A shot whose region is empty brings no evidence.

    Args:
        channels: of the features.
        strength: kappa at first, in shots; it is learned.
    """

    def __init__(self, channels: int, strength: float = 2.0) -> None:
        super().__init__()
        # Short vectors at first, since only their direction counts and short ones turn fast.
        self.vectors = nn.Parameter(torch.randn(2, channels) * 0.01)
        self.log_strength = LearnedScalars([math.log(strength)] * 2)

    def forward(self, shots: Tensor, shot_weights: Tensor | None = None) -> Tensor:
        """Compute the posterior prototypes (..., 1 + n_way, channels); index 0 is background, as all images show it.

        Shots are pooled vectors (..., n_way, n_shot, 2, channels), background first; n_shot may be 0. Their weights are
        (..., n_way, n_shot), summing to 1 over shots; None for equal ones.
        """
        evidence = unit(shots, -1)
        if shot_weights is not None:
            evidence = evidence * (shot_weights * shots.shape[-3]).unsqueeze(-1).unsqueeze(-1)
        summed = evidence.sum(-3)  # (..., n_way, 2, channels)
        prior = self.log_strength.values.exp().unsqueeze(-1) * unit(self.vectors, -1)
        background = (prior[0] + summed[..., 0, :].sum(-2)).unsqueeze(-2)
        return torch.cat([background, prior[1] + summed[..., 1, :]], dim=-2)
