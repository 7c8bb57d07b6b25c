"""Matching by a closed-form head: ridge regression on support pixels, shrunk towards what the sources know."""

import math

import torch
from torch import Tensor, nn

from fewshot.panet.blocks import LearnedScalars, Temperature, both_regions, pooling_weights, scalar_products, unit

LEAST_STRENGTH = 1e-5


def ridge_weights(features: Tensor, targets: Tensor, weights: Tensor, prior: Tensor, strength: Tensor) -> Tensor:
    """Solve min_w sum_p s_p (w . f_p - y_p)^2 + strength |w - prior|^2 in closed form.

    R2D2, Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019, eq. 5, with weighted
    pixels and a prior in place of zero: w = prior + (F'SF + strength I)^-1 F'S (y - F prior). Without evidence (all
    weights zero, or no pixel) it is the prior.

    Features are (..., pixels, channels), targets and weights (not negative) (..., pixels), the prior (channels,), the
    strength a positive scalar, and the result (..., channels).
    """
    weighted = features * weights.unsqueeze(-1)
    gram = weighted.mT @ features + strength * torch.eye(features.shape[-1], device=features.device)
    residual = (targets - features @ prior).unsqueeze(-1)
    # Symmetric and positive: Cholesky is the solver for it.
    moved = torch.cholesky_solve(weighted.mT @ residual, torch.linalg.cholesky(gram))
    return prior + moved.squeeze(-1)


class RidgeMatcher(nn.Module):
    """Separate lesion from background by a linear head on unit features, solved on the support set.

    A shot weighs 1, half on its lesion and half on its background, so that `strength`, which is learned, says how many
    shots the prior is worth. Targets are +1 and -1. With `prior` the weights that the head is shrunk towards are
    learned; otherwise it is towards zero, as in R2D2.
    """

    def __init__(
        self, channels: int, temperature: float = 4.0, *, learned_temperature: bool = False, prior: bool = False
    ) -> None:
        super().__init__()
        self.temperature = Temperature(temperature, learned=learned_temperature)
        self.log_strength = LearnedScalars([math.log(0.01)])
        self.prior: nn.Parameter | None = nn.Parameter(torch.zeros(channels + 1)) if prior else None
        self.channels = channels

    @property
    def cosine_temperature(self) -> Tensor:
        """Return PANet's own factor: the alignment compares features by cosine under either matcher."""
        return torch.tensor(20.0)

    @property
    def strength(self) -> Tensor:
        """Return how many shots the prior is worth, a scalar; bounded, as the solution loses its digits below."""
        return self.log_strength.values[0].exp().clamp_min(LEAST_STRENGTH)

    def adapt(self, features: Tensor, masks: Tensor, kept: Tensor | None = None) -> Tensor:
        """Solve one linear head per way, (n_episodes, n_way, channels + 1); the last entry is the offset.

        The arguments and errors are those of `PrototypeMatcher.adapt`.
        """
        grid = (features.shape[-2], features.shape[-1])
        regions = pooling_weights(both_regions(masks), grid, empty_is_zero=self.prior is not None) / 2
        if kept is not None:
            regions = regions * kept.view(-1, 1, 1, 1, 1, 1)
        weights = regions.sum(3)
        # A pixel on the border belongs to both; its target is what its parts say on average.
        targets = (regions[:, :, :, 1] - regions[:, :, :, 0]) / weights.clamp_min(torch.finfo(weights.dtype).tiny)
        pixels = _with_offset(unit(features, -3)).movedim(3, -1).flatten(2, 4)  # (e, way, pixels, channels + 1)
        prior = pixels.new_zeros(self.channels + 1) if self.prior is None else self.prior
        return ridge_weights(pixels, targets.flatten(2), weights.flatten(2), prior, self.strength)

    def forward(self, query: Tensor, adapted: Tensor) -> Tensor:
        """Match query features (n_episodes, n_query, channels, h, w): logits (n_episodes, n_query, 1 + n_way, h, w)."""
        scores = scalar_products(_with_offset(unit(query, -3)), adapted)
        return self.temperature.factor * torch.cat([torch.zeros_like(scores[:, :, :1]), scores], dim=2)


def _with_offset(features: Tensor) -> Tensor:
    """Append a channel of ones to features (..., channels, h, w)."""
    return torch.cat([features, torch.ones_like(features[..., :1, :, :])], dim=-3)
