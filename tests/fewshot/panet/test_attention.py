"""Attention against plain loops, its published form, and what it must do: stay in its region, and prefer likeness."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewshot.panet.attention import Attention, SupportAttention
from fewshot.panet.blocks import LearnedScalars, both_regions, pooling_weights
from fewshot.panet.network import PrototypeMatcher
from fewshot.panet.panet import class_prototypes

CHANNELS = 6


def random_case(n_way: int = 2, n_shot: int = 3, n_query: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Support features and masks, and query features, of two episodes."""
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(2, n_way, n_shot, CHANNELS, 5, 4, generator=generator)
    masks = (torch.rand(2, n_way, n_shot, 20, 16, generator=generator) < 0.3).float()
    masks[..., 0, 0], masks[..., -1, -1] = 0, 1
    query = torch.randn(2, n_query, CHANNELS, 5, 4, generator=generator)
    return support, masks, query


def attend(attention: SupportAttention, support: Tensor, weights: Tensor, query: Tensor) -> Attention:
    """Attention of queries to the features of a support set."""
    found: Attention = attention(attention.read(support), weights, query)
    return found


def random_attention(strength: float = 1.0, seed: int = 0) -> SupportAttention:
    """With weights far from their start."""
    attention, generator = SupportAttention(CHANNELS, width=4), torch.Generator().manual_seed(seed)
    for linear in (attention.keys, attention.queries):
        torch.nn.init.normal_(linear.weight, std=strength, generator=generator)
    attention.shot_strength = LearnedScalars([strength])
    return attention


def zeroed(matcher: PrototypeMatcher) -> PrototypeMatcher:
    assert matcher.attention is not None
    for parameter in matcher.attention.parameters():
        torch.nn.init.zeros_(parameter)
    return matcher


# The published form


def test_with_all_weights_zero_pixels_and_shots_count_as_published() -> None:
    support, masks, query = random_case()
    attention = SupportAttention(CHANNELS)
    for parameter in attention.parameters():
        torch.nn.init.zeros_(parameter)
    found = attend(attention, support, pooling_weights(both_regions(masks), (5, 4)), query)
    shots = torch.einsum("ewschx,eqwsrhx->eqwsrc", support, found.weights)
    means = torch.einsum("eqwsrc,eqws->eqwrc", shots, found.shots)
    prototypes = torch.cat([means[:, :, :, 0].mean(2, keepdim=True), means[:, :, :, 1]], dim=2)
    expected = class_prototypes(support, masks).unsqueeze(1).expand_as(prototypes)
    torch.testing.assert_close(prototypes, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"prior": True}, {"grid": 2}, {"self_support": True}])
def test_a_matcher_with_all_attention_weights_zero_is_the_one_without(options: dict[str, bool | int]) -> None:
    support, masks, query = random_case()
    plain = PrototypeMatcher(CHANNELS, **options)  # type: ignore[arg-type]
    attending = zeroed(PrototypeMatcher(CHANNELS, attention=True, **options))  # type: ignore[arg-type]
    attending.load_state_dict(plain.state_dict(), strict=False)
    logits = [matcher(query, matcher.adapt(support, masks)) for matcher in (plain, attending)]
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=2e-5)


def test_a_new_attention_is_near_the_published_form_but_can_learn() -> None:
    support, masks, query = random_case()
    weights = pooling_weights(both_regions(masks), (5, 4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = SupportAttention(CHANNELS)
    found = attend(attention, support, weights, query)
    torch.testing.assert_close(found.weights, weights.unsqueeze(1).expand_as(found.weights), rtol=0.2, atol=0.02)
    (found.weights.square().sum() + found.shots[..., 0].sum()).backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in attention.parameters())


# The definition


def test_weights_equal_plain_loops() -> None:
    support, masks, query = random_case()
    weights = pooling_weights(both_regions(masks), (5, 4))
    attention = random_attention()
    found = attend(attention, support, weights, query)
    keys, queries = attention.keys.weight, attention.queries.weight
    for e, q, way in torch.cartesian_prod(*(torch.arange(2) for _ in range(3))).tolist():
        gist = F.normalize(query[e, q], dim=0).mean((1, 2))
        asked = (queries @ gist).view(2, 4)
        likeness = []
        for shot in range(3):
            directions = F.normalize(support[e, way, shot], dim=0)
            likeness.append(F.cosine_similarity(directions.mean((1, 2)), gist, dim=0))
            for region in range(2):
                scores = torch.einsum("dc,chw,d->hw", keys, directions, asked[region]) / math.sqrt(4)
                expected = weights[e, way, shot, region] * scores.exp()
                torch.testing.assert_close(found.weights[e, q, way, shot, region], expected / expected.sum())
        expected = torch.softmax(torch.stack(likeness), 0)
        torch.testing.assert_close(found.shots[e, q, way], expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), strength=st.sampled_from([0.0, 1.0, 30.0, 1000.0]))
def test_the_weights_of_a_region_sum_to_1_however_strong_the_scores(seed: int, strength: float) -> None:
    """Also where all of a region, here a small lesion, scores far below what lies outside it."""
    support, masks, query = random_case(seed=seed)
    masks[..., :12] = 0
    masks[..., :16, :] = 0
    found = attend(random_attention(strength, seed), support, pooling_weights(both_regions(masks), (5, 4)), query)
    torch.testing.assert_close(found.weights.sum((-2, -1)), torch.ones(2, 2, 2, 3, 2))
    torch.testing.assert_close(found.shots.sum(-1), torch.ones(2, 2, 2))
    assert bool((found.weights >= 0).all())


def test_a_pixel_outside_its_region_gets_nothing() -> None:
    support, _, query = random_case()
    masks = (torch.rand(2, 2, 3, 5, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()  # as fine as the grid
    masks[..., 0, 0], masks[..., -1, -1] = 0, 1
    weights = attend(random_attention(30.0), support, pooling_weights(both_regions(masks), (5, 4)), query).weights
    lesion = masks.unsqueeze(1).expand(-1, 2, -1, -1, -1, -1).bool()
    assert not weights[:, :, :, :, 1][~lesion].any()
    assert not weights[:, :, :, :, 0][lesion].any()


# What it is for


def likeness_attention(strength: float) -> SupportAttention:
    """Scores a pixel by its cosine with the query's mean, times `strength`."""
    attention = SupportAttention(CHANNELS, width=CHANNELS)
    with torch.no_grad():
        attention.keys.weight.copy_(torch.eye(CHANNELS))
        attention.queries.weight.copy_(strength * torch.eye(CHANNELS).repeat(2, 1))
    return attention


def test_pixels_like_the_query_can_count_more() -> None:
    support, masks, query = random_case()
    weights = pooling_weights(both_regions(masks), (5, 4))
    found = attend(likeness_attention(50.0), support, weights, query).weights[0, 0, 0, 0, 0]
    gist = F.normalize(query[0, 0], dim=0).mean((1, 2))
    cosine = F.cosine_similarity(support[0, 0, 0], gist[:, None, None], dim=0)
    raised, inside = found / weights[0, 0, 0, 0], weights[0, 0, 0, 0] > 0
    assert torch.equal(raised[inside].argsort(), cosine[inside].argsort())


def test_every_query_has_weights_of_its_own() -> None:
    support, masks, query = random_case()
    weights = pooling_weights(both_regions(masks), (5, 4))
    attention = random_attention()
    together = attend(attention, support, weights, query)
    assert not torch.allclose(together.weights[:, 0], together.weights[:, 1])
    for q in range(2):
        alone = attend(attention, support, weights, query[:, q : q + 1])
        torch.testing.assert_close(alone.weights[:, 0], together.weights[:, q])
        torch.testing.assert_close(alone.shots[:, 0], together.shots[:, q])


def test_a_growing_shot_strength_moves_weight_to_the_shot_most_like_the_query() -> None:
    support, masks, query = random_case(n_way=1)
    support[:, 0, 1] = 3 * query[:, 0]  # the second shot is the query itself, with more contrast
    attention, shares = SupportAttention(CHANNELS), []
    for strength in (0.0, 1.0, 5.0, 50.0):
        attention.shot_strength = LearnedScalars([strength])
        shares.append(attend(attention, support, pooling_weights(both_regions(masks), (5, 4)), query).shots[:, 0, 0, 1])
    torch.testing.assert_close(shares[0], torch.full((2,), 1 / 3))
    assert all(bool((later > earlier).all()) for earlier, later in pairwise(shares))
    assert bool((shares[-1] > 0.99).all())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_region_has_no_weight_and_finite_gradients(value: float) -> None:
    support, masks, query = random_case(n_way=1)
    masks[0, 0, 1] = value
    support.requires_grad_()
    attention = random_attention()
    found = attend(attention, support, pooling_weights(both_regions(masks), (5, 4), empty_is_zero=True), query)
    empty = 1 - int(value)
    assert not found.weights[0, :, 0, 1, empty].any()
    torch.testing.assert_close(found.weights[0, :, 0, 1, 1 - empty].sum((-2, -1)), torch.ones(2))

    matcher = PrototypeMatcher(CHANNELS, attention=True, prior=True)
    matcher(query, matcher.adapt(support, masks)).square().sum().backward()
    gradients = [support.grad, *(parameter.grad for parameter in matcher.parameters())]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
