"""Matching at one level: the published form with every option off, and what holds whatever is on."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.blocks import LearnedScalars, Temperature
from fewshot.panet.network import PrototypeMatcher, Prototypes
from fewshot.panet.panet import class_prototypes, cosine_similarity
from tests.fewshot import plain_panet

CHANNELS = 8
OPTIONS: list[dict[str, Any]] = [
    {},
    {"attention": True},
    {"prior": True},
    {"grid": 2},
    {"self_support": True},
    {"attention": True, "prior": True},
    {"attention": True, "grid": 2},
    {"prior": True, "grid": 2},
    {"attention": True, "prior": True, "grid": 2, "self_support": True, "learned_temperature": True},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options) or "published")


def random_case(n_way: int = 2, n_shot: int = 3, n_query: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Support features and masks, and query features, of three episodes; some cells of a 2x2 grid are filled."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(3, n_way, n_shot, CHANNELS, 8, 6, generator=generator)
    masks = torch.zeros(3, n_way, n_shot, 32, 24)
    masks[..., 18:, 14:] = 1
    masks[..., 0, :16, :] = 1  # the first shot's
    query = torch.randn(3, n_query, CHANNELS, 8, 6, generator=generator)
    return support, masks, query


def random_matcher(**options: Any) -> PrototypeMatcher:
    """With weights far from their start."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        matcher = PrototypeMatcher(CHANNELS, **options)
        for parameter in matcher.parameters():
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return matcher


# The published form


def test_with_every_option_off_it_is_20_times_the_cosine_with_the_class_prototypes() -> None:
    support, masks, query = random_case()
    matcher = PrototypeMatcher(CHANNELS)
    assert not list(matcher.parameters())
    adapted = matcher.adapt(support, masks)
    assert isinstance(adapted, Prototypes)
    assert adapted.local is None
    prototypes = class_prototypes(support, masks)
    torch.testing.assert_close(adapted.vectors, prototypes.unsqueeze(1))
    logits = matcher(query, adapted)
    torch.testing.assert_close(logits, 20 * cosine_similarity(query, prototypes))
    for episode in range(3):
        plain = plain_panet.prototypes_of(support[episode].double(), masks[episode].double())
        expected = plain_panet.match(query[episode].double(), plain)
        torch.testing.assert_close(logits[episode].double(), expected, rtol=1e-5, atol=1e-5)


def test_one_query_prototype_and_many_give_the_same() -> None:
    support, masks, query = random_case()
    matcher = PrototypeMatcher(CHANNELS)
    vectors = class_prototypes(support, masks).unsqueeze(1)
    shared, repeated = matcher(query, Prototypes(vectors)), matcher(query, Prototypes(vectors.expand(-1, 2, -1, -1)))
    torch.testing.assert_close(shared, repeated)


# Whatever is on


@every_option
def test_episodes_and_queries_of_a_batch_do_not_mix(options: dict[str, Any]) -> None:
    support, masks, query = random_case()
    matcher = random_matcher(**options)
    together = matcher(query, matcher.adapt(support, masks))
    assert together.shape == (3, 2, 3, 8, 6)
    assert bool(together.isfinite().all())
    for e in range(3):
        adapted = matcher.adapt(support[e : e + 1], masks[e : e + 1])
        for q in range(2):
            alone = matcher(query[e : e + 1, q : q + 1], adapted)
            torch.testing.assert_close(alone[0, 0], together[e, q], rtol=1e-4, atol=1e-4)


@every_option
def test_the_order_of_shots_does_not_matter_and_that_of_ways_is_the_order_of_channels(options: dict[str, Any]) -> None:
    support, masks, query = random_case()
    matcher = random_matcher(**options)
    logits = matcher(query, matcher.adapt(support, masks))
    shots = matcher(query, matcher.adapt(support[:, :, [2, 0, 1]], masks[:, :, [2, 0, 1]]))
    torch.testing.assert_close(shots, logits, rtol=1e-4, atol=1e-4)
    ways = matcher(query, matcher.adapt(support.flip(1), masks.flip(1)))
    torch.testing.assert_close(ways, logits[:, :, [0, 2, 1]], rtol=1e-4, atol=1e-4)


@every_option
def test_gradients_are_finite_and_reach_every_weight(options: dict[str, Any]) -> None:
    support, masks, query = (tensor.requires_grad_() for tensor in random_case())
    matcher = random_matcher(**options)
    matcher(query, matcher.adapt(support, masks)).square().mean().backward()
    gradients = [support.grad, query.grad, *(parameter.grad for parameter in matcher.parameters())]
    assert all(
        gradient is not None and bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in gradients
    )


@every_option
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_region_needs_a_prior(options: dict[str, Any], value: float) -> None:
    support, masks, query = random_case()
    masks[0] = value
    matcher = random_matcher(**options)
    if "prior" in options:
        assert bool(matcher(query, matcher.adapt(support, masks)).isfinite().all())
        return
    with pytest.raises(ValueError, match="a mask is empty: an empty region has no prototype"):
        matcher.adapt(support, masks)


# Single options


def test_cells_of_the_grid_join_the_class_prototype() -> None:
    """By the plain definition: the class's mean and its filled cells, weighed by their own softmax."""
    support, masks, query = random_case(n_way=1, n_shot=2)
    matcher = PrototypeMatcher(CHANNELS, grid=2)
    adapted = matcher.adapt(support, masks)
    assert isinstance(adapted, Prototypes)
    assert adapted.local is not None
    cells, valid = adapted.local
    assert valid.any(-1).all()
    logits = matcher(query, adapted)
    for k in range(2):
        vectors = [adapted.vectors[0, 0, k], *cells[0, 0, 0][valid[0, 0, k]]]
        cosines = torch.stack([F.cosine_similarity(query[0, 1], vector[:, None, None], dim=0) for vector in vectors])
        torch.testing.assert_close(logits[0, 1, k], 20 * ((20 * cosines).softmax(0) * cosines).sum(0))


def test_attention_with_a_prior_weighs_the_shots_evidence() -> None:
    """With a strong preference, the shot that is the query counts as often as there are shots."""
    support, masks, query = random_case(n_way=1)
    support[:, :, 1] = query[:, :1]
    matcher = random_matcher(attention=True, prior=True)
    assert matcher.attention is not None
    torch.nn.init.zeros_(matcher.attention.queries.weight)
    matcher.attention.shot_strength = LearnedScalars([1000.0])
    found = matcher(query[:, :1], matcher.adapt(support, masks))
    thrice = [tensor[:, :, [1, 1, 1]] for tensor in (support, masks)]
    torch.testing.assert_close(found, matcher(query[:, :1], matcher.adapt(*thrice)))


def test_self_support_finds_the_rest_of_a_lesion_whose_look_drifted() -> None:
    """The query's lesion lies between the support's and the background: one pixel surely lesion, one unsure."""
    angles = torch.deg2rad(torch.tensor([0, 90, 60, 44.5]))  # background, the support's lesion; the query's two pixels
    looks = torch.stack([angles.cos(), angles.sin()])  # (channels, 4)
    support, mask = looks[:, :2].view(1, 1, 1, 2, 1, 2), torch.tensor([0.0, 1]).view(1, 1, 1, 1, 2)
    query = looks[:, [0, 2, 3]].view(1, 1, 2, 1, 3)
    found = []
    for again in (False, True):
        matcher = PrototypeMatcher(2, self_support=again)
        found.append(matcher(query, matcher.adapt(support, mask))[0, 0, :, 0].argmax(0).tolist())
    assert found == [[0, 1, 0], [0, 1, 1]]


# Temperatures


def test_a_learned_temperature_starts_at_the_same_value_and_stays_positive() -> None:
    temperature = Temperature(20.0, learned=True)
    torch.testing.assert_close(temperature.factor, torch.tensor(20.0))
    optimizer = torch.optim.SGD(temperature.parameters(), lr=0.001)
    for _ in range(50):
        optimizer.zero_grad()
        temperature.factor.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert 0 < temperature.factor.item() < 10
    assert not list(Temperature(20.0).parameters())


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_temperature_is_positive(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^temperature is {value}; expected a positive number$"):
        Temperature(value)
