"""The ridge head against least squares in double precision, at its limits, and as a matcher."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fewshot.panet.blocks import LearnedScalars, both_regions, pooling_weights
from fewshot.panet.ridge import RidgeMatcher, ridge_weights

CHANNELS = 6


def least_squares(
    features: Tensor, targets: Tensor, weights: Tensor, prior: Tensor, strength: float
) -> NDArray[np.float64]:
    """The augmented system: each weighted pixel an equation, and the prior one equation per coefficient."""
    f, y, s, w0 = (tensor.detach().double().numpy() for tensor in (features, targets, weights, prior))
    root = np.sqrt(s)
    rows = np.concatenate([f * root[:, None], math.sqrt(strength) * np.eye(f.shape[1])])
    values = np.concatenate([y * root, math.sqrt(strength) * w0])
    solution: NDArray[np.float64] = np.linalg.lstsq(rows, values, rcond=None)[0]
    return solution


def random_system(seed: int = 0, pixels: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, targets, weights (some of them 0) and a prior, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    features, targets, prior = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((pixels, CHANNELS), (pixels,), (CHANNELS,))
    )
    return features, targets, torch.rand(pixels, dtype=torch.float64, generator=generator).sub(0.2).relu(), prior


def solve(system: tuple[Tensor, Tensor, Tensor, Tensor], strength: float) -> Tensor:
    return ridge_weights(*system, torch.tensor(strength, dtype=torch.float64))


# The closed form


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), pixels=st.integers(1, 40), strength=st.floats(0.01, 100))
def test_it_is_the_least_squares_solution_of_the_augmented_system(seed: int, pixels: int, strength: float) -> None:
    system = random_system(seed, pixels)
    expected = torch.from_numpy(least_squares(*system, strength))
    torch.testing.assert_close(solve(system, strength), expected, rtol=1e-5, atol=1e-6)


def test_it_is_the_minimum_it_claims() -> None:
    features, targets, weights, prior = random_system()
    found = solve((features, targets, weights, prior), 0.7).requires_grad_()
    loss = (weights * (features @ found - targets) ** 2).sum() + 0.7 * (found - prior).square().sum()
    (gradient,) = torch.autograd.grad(loss, found)
    torch.testing.assert_close(gradient, torch.zeros(CHANNELS, dtype=torch.float64), rtol=0, atol=1e-6)


def test_without_evidence_it_is_the_prior() -> None:
    features, targets, weights, prior = random_system()
    torch.testing.assert_close(solve((features, targets, torch.zeros_like(weights), prior), 0.1), prior)
    torch.testing.assert_close(solve((features[:0], targets[:0], weights[:0], prior), 0.1), prior)


def test_a_growing_strength_leads_from_least_squares_to_the_prior() -> None:
    features, targets, weights, prior = system = random_system()
    root = weights.sqrt().unsqueeze(-1)
    unshrunk = torch.linalg.lstsq(features * root, targets.unsqueeze(-1) * root).solution.squeeze(-1)
    torch.testing.assert_close(solve(system, 1e-9), unshrunk, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(solve(system, 1e9), prior, rtol=1e-6, atol=1e-6)
    distances = [float((solve(system, strength) - prior).norm()) for strength in (0.01, 0.1, 1, 10, 100)]
    assert distances == sorted(distances, reverse=True)


def test_weights_and_strength_have_one_scale() -> None:
    features, targets, weights, prior = random_system()
    torch.testing.assert_close(
        solve((features, targets, 3 * weights, prior), 0.6), solve((features, targets, weights, prior), 0.2)
    )
    twice = (torch.cat([features, features]), torch.cat([targets, targets]), weights.repeat(2) / 2, prior)
    torch.testing.assert_close(solve(twice, 0.2), solve((features, targets, weights, prior), 0.2))


def test_leading_axes_are_systems_of_their_own() -> None:
    first, second = random_system(0), random_system(1)
    features, targets, weights = (torch.stack(pair) for pair in zip(first[:3], second[:3], strict=True))
    found = solve((features, targets, weights, first[3]), 0.3)
    torch.testing.assert_close(found[0], solve(first, 0.3), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1], solve((*second[:3], first[3]), 0.3), rtol=1e-6, atol=1e-6)


def test_single_precision_is_precise_enough_with_more_channels_than_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.rand(64, 512, generator=generator), dim=1)
    targets, prior = torch.randn(64, generator=generator).sign(), torch.zeros(512)
    found = ridge_weights(features, targets, torch.full((64,), 1 / 64), prior, torch.tensor(0.001))
    expected = least_squares(features, targets, torch.full((64,), 1 / 64), prior, 0.001)
    torch.testing.assert_close(
        (features @ found).double(), features.double() @ torch.from_numpy(expected), atol=1e-3, rtol=0
    )


# The matcher


def random_case(n_way: int = 2, n_shot: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Support features and masks, and query features, of two episodes."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(2, n_way, n_shot, CHANNELS, 5, 4, generator=generator)
    masks = (torch.rand(2, n_way, n_shot, 20, 16, generator=generator) < 0.3).float()
    return support, masks, torch.randn(2, 2, CHANNELS, 5, 4, generator=generator)


def prior_matcher() -> RidgeMatcher:
    matcher = RidgeMatcher(CHANNELS, prior=True)
    assert matcher.prior is not None
    torch.nn.init.normal_(matcher.prior, generator=torch.Generator().manual_seed(0))
    return matcher


def heads(matcher: RidgeMatcher, *arguments: Tensor | None) -> Tensor:
    return matcher.adapt(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("prior", [False, True])
def test_heads_and_logits_equal_plain_loops(prior: bool) -> None:
    """Each image's lesion and background pixels are equations with targets 1 and -1 that weigh 1/2 in all."""
    support, masks, query = random_case()
    matcher = prior_matcher() if prior else RidgeMatcher(CHANNELS)
    start = matcher.prior if matcher.prior is not None else torch.zeros(CHANNELS + 1)
    adapted = matcher.adapt(support, masks)
    logits = matcher(query, adapted)
    regions = pooling_weights(both_regions(masks), (5, 4))  # a pixel between both regions appears with either target
    for e, way in torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist():
        directions = torch.nn.functional.normalize(support[e, way], dim=1)  # (shot, channels, h, w)
        pixels = torch.cat([directions, torch.ones(3, 1, 5, 4)], dim=1).permute(0, 2, 3, 1).reshape(60, -1)
        weights = [regions[e, way, :, region].reshape(60) / 2 for region in (1, 0)]
        expected = least_squares(
            pixels.repeat(2, 1), torch.tensor([1.0, -1]).repeat_interleave(60), torch.cat(weights), start, 0.01
        )
        torch.testing.assert_close(adapted[e, way].double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-4)
        unit = torch.nn.functional.normalize(query[e], dim=1)
        score = torch.einsum("qchw,c->qhw", unit, adapted[e, way, :-1]) + adapted[e, way, -1]
        torch.testing.assert_close(logits[e, :, way + 1], 4 * score, rtol=1e-4, atol=1e-5)
    assert not logits[:, :, 0].any()


def test_a_shot_weighs_as_much_as_any_whatever_its_lesion_s_size() -> None:
    """So `strength` counts shots: the same shot twice is one shot with half the strength."""
    support, masks, _ = random_case(n_shot=1)
    weak, plain = prior_matcher(), prior_matcher()
    weak.log_strength = LearnedScalars([math.log(0.005)])
    twice = heads(plain, support.repeat(1, 1, 2, 1, 1, 1), masks.repeat(1, 1, 2, 1, 1))
    torch.testing.assert_close(twice, heads(weak, support, masks), rtol=1e-3, atol=1e-4)


def test_a_support_image_is_segmented_by_its_own_head() -> None:
    """Also where no single direction stands for either region."""
    looks = torch.nn.functional.normalize(torch.randn(5, CHANNELS, generator=torch.Generator().manual_seed(0)), dim=1)
    features = looks[[0, 1, 2, 3, 4, 0]].T.reshape(1, 1, 1, CHANNELS, 2, 3)
    mask = torch.tensor([[1.0, 0, 1], [0, 0, 1]]).view(1, 1, 1, 2, 3)
    matcher = RidgeMatcher(CHANNELS)
    logits = matcher(features[:, 0], matcher.adapt(features, mask))
    assert torch.equal(logits[0, 0, 1] > 0, mask[0, 0, 0] > 0)


def test_without_its_support_set_an_episode_has_the_prior_s_head() -> None:
    support, masks, _ = random_case()
    matcher = prior_matcher()
    assert matcher.prior is not None
    found = heads(matcher, support, masks, torch.tensor([False, True]))
    torch.testing.assert_close(found[0], matcher.prior.expand(2, -1))
    torch.testing.assert_close(found[1], heads(matcher, support, masks)[1])
    torch.testing.assert_close(heads(matcher, support[:, :, :0], masks[:, :, :0]), matcher.prior.expand(2, 2, -1))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_region_needs_a_prior_and_leaves_the_other_s_evidence(value: float) -> None:
    support, masks, _ = random_case()
    masks[:] = value
    with pytest.raises(ValueError, match="a mask is empty"):
        RidgeMatcher(CHANNELS).adapt(support, masks)
    matcher = prior_matcher()
    assert matcher.prior is not None
    before = matcher(support[:, 0], matcher.prior.expand(2, 1, -1))[:, :, 1].mean()
    after = matcher(support[:, 0], matcher.adapt(support[:, :1], masks[:, :1]))[:, :, 1].mean()
    assert bool(after < before) == (value == 0)


def test_shots_have_no_order_and_ways_are_channels() -> None:
    support, masks, query = random_case()
    matcher = prior_matcher()
    logits = matcher(query, matcher.adapt(support, masks))
    shots = matcher(query, matcher.adapt(support[:, :, [2, 0, 1]], masks[:, :, [2, 0, 1]]))
    torch.testing.assert_close(shots, logits, rtol=1e-3, atol=1e-3)
    ways = matcher(query, matcher.adapt(support.flip(1), masks.flip(1)))
    torch.testing.assert_close(ways, logits[:, :, [0, 2, 1]], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("empty", [False, True])
def test_gradients_pass_through_the_solution(empty: bool) -> None:
    support, masks, query = random_case()
    if empty:
        masks[0] = 0
    matcher = prior_matcher()
    support.requires_grad_()
    matcher(query, matcher.adapt(support, masks)).square().mean().backward()
    gradients = [support.grad, *(parameter.grad for parameter in matcher.parameters())]
    assert all(
        gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in gradients
    )


def test_the_strength_stays_where_the_solution_keeps_its_digits() -> None:
    matcher = RidgeMatcher(4)
    with torch.no_grad():
        matcher.log_strength.scaled.fill_(-100)
    assert matcher.strength.item() == pytest.approx(1e-5)


def test_features_are_aligned_with_the_temperature_of_the_cosine() -> None:
    assert float(RidgeMatcher(4, 3.0).cosine_temperature) == 20
