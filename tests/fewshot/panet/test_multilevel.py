"""Several levels' logits and their learned mean, by hand; what the decoder looks at, and what must not matter."""

import math

import pytest
import torch
from torch import Tensor

from fewshot.features import Features
from fewshot.panet.blocks import LearnedScalars, resize_logits
from fewshot.panet.multilevel import MultiLevelMatcher, SpatialDecoder
from fewshot.panet.network import PrototypeMatcher
from fewshot.panet.ridge import RidgeMatcher

CHANNELS, GRIDS = (4, 6), ((8, 6), (4, 3))


def random_case() -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Support features of two levels, masks and query features, of 2 episodes of 2 ways and 2 shots."""
    generator = torch.Generator().manual_seed(0)
    sizes = list(zip(CHANNELS, GRIDS, strict=True))
    support = [torch.randn(2, 2, 2, channels, *grid, generator=generator) for channels, grid in sizes]
    masks = (torch.rand(2, 2, 2, 32, 24, generator=generator) < 0.3).float()
    return support, masks, [torch.randn(2, 3, channels, *grid, generator=generator) for channels, grid in sizes]


def test_one_level_is_its_own_matcher() -> None:
    support, masks, query = random_case()
    matcher = PrototypeMatcher(CHANNELS[1])
    single = MultiLevelMatcher([matcher])
    assert not list(single.parameters())
    matched = single(query[1:], single.adapt(support[1:], masks))
    expected = matcher(query[1], matcher.adapt(support[1], masks))
    for found in (matched.levels[0], matched.deepest, matched.fused):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", [PrototypeMatcher, RidgeMatcher])
def test_levels_are_matched_apart_and_fused_on_the_finest_grid(
    kind: type[PrototypeMatcher] | type[RidgeMatcher],
) -> None:
    support, masks, query = random_case()
    matchers = [kind(channels) for channels in CHANNELS]
    both = MultiLevelMatcher(matchers)
    both.shares = LearnedScalars([0.0, math.log(3)])
    matched = both(query, both.adapt(support, masks))
    own = [m(q, m.adapt(s, masks)) for m, q, s in zip(matchers, query, support, strict=True)]
    assert torch.equal(matched.deepest, own[1])
    assert matched.levels.shape == (2, 2, 3, 3, 8, 6)
    torch.testing.assert_close(matched.levels[0], own[0])
    torch.testing.assert_close(matched.levels[1], resize_logits(own[1], (8, 6)))
    torch.testing.assert_close(matched.fused, 0.25 * matched.levels[0] + 0.75 * matched.levels[1])


def test_levels_count_alike_at_first_and_their_shares_are_learned() -> None:
    support, masks, query = random_case()
    both = MultiLevelMatcher([PrototypeMatcher(channels) for channels in CHANNELS])
    matched = both(query, both.adapt(support, masks))
    torch.testing.assert_close(matched.fused, matched.levels.mean(0))
    matched.fused[:, :, 1].sum().backward()
    assert both.shares is not None
    gradient = both.shares.scaled.grad
    assert gradient is not None
    better = (matched.levels[0] - matched.levels[1])[:, :, 1].sum()
    assert torch.equal(gradient.sign(), torch.stack([better.sign(), -better.sign()]))


def test_the_temperature_is_that_of_the_deepest_level() -> None:
    matchers = [PrototypeMatcher(channels, temperature) for channels, temperature in zip(CHANNELS, (5, 7), strict=True)]
    assert MultiLevelMatcher(matchers).cosine_temperature.item() == 7


def test_episodes_without_support_are_told_to_every_level() -> None:
    support, masks, query = random_case()
    both = MultiLevelMatcher([PrototypeMatcher(channels, prior=True) for channels in CHANNELS])
    dropped = both(query, both.adapt(support, masks, torch.zeros(2, dtype=torch.bool)))
    without = both(query, both.adapt([level[:, :, :0] for level in support], masks[:, :, :0]))
    torch.testing.assert_close(dropped.levels, without.levels)


def test_every_level_has_a_matcher() -> None:
    support, masks, _ = random_case()
    with pytest.raises(ValueError, match="zip"):
        MultiLevelMatcher([PrototypeMatcher(6)]).adapt(support, masks)


# The decoder

DECODED, SIZE = (4, 6, 8), (67, 45)
DECODED_GRIDS = ((34, 23), (17, 12), (9, 6))


def decoder_case(n_way: int = 2, n_maps: int = 2) -> tuple[list[Tensor], Tensor]:
    """Three levels of two images, and similarity maps on the second level's grid."""
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, c, *grid, generator=generator) for c, grid in zip(DECODED, DECODED_GRIDS, strict=True)]
    return levels, torch.randn(2, n_way, n_maps, *DECODED_GRIDS[1], generator=generator)


@pytest.fixture
def decoder() -> SpatialDecoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SpatialDecoder(DECODED, (16, 8), n_maps=2)


def corrections(decoder: SpatialDecoder, levels: list[Tensor], maps: Tensor) -> Tensor:
    """What the decoder adds to the last similarity map, (n, n_way, H, W), of the queries of one episode."""
    query = Features(tuple(level.unsqueeze(0) for level in levels), SIZE)
    logits = decoder(query, maps.unsqueeze(0))[0]
    assert not logits[:, 0].any()  # the background's
    found: Tensor = logits[:, 1:] - resize_logits(maps[:, :, -1], SIZE)
    return found


@pytest.mark.parametrize("n_way", [1, 2, 3])
def test_every_way_is_decoded_by_itself_to_the_images_size(decoder: SpatialDecoder, n_way: int) -> None:
    levels, maps = decoder_case(n_way)
    logits = corrections(decoder, levels, maps)
    assert logits.shape == (2, n_way, *SIZE)
    for way in range(n_way):
        alone = corrections(decoder, levels, maps[:, way : way + 1])
        torch.testing.assert_close(alone[:, 0], logits[:, way], rtol=1e-4, atol=1e-5)


def test_permuted_ways_permute_their_logits(decoder: SpatialDecoder) -> None:
    levels, maps = decoder_case(n_way=3)
    order = [2, 0, 1]
    found = corrections(decoder, levels, maps[:, order])
    torch.testing.assert_close(found, corrections(decoder, levels, maps)[:, order], rtol=1e-4, atol=1e-5)


def test_images_do_not_mix(decoder: SpatialDecoder) -> None:
    levels, maps = decoder_case()
    alone = corrections(decoder, [level[1:] for level in levels], maps[1:])
    torch.testing.assert_close(corrections(decoder, levels, maps)[1:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_it_sees_every_level_and_every_similarity_map(decoder: SpatialDecoder, place: int) -> None:
    levels, maps = decoder_case()
    inputs = [*(level.requires_grad_() for level in levels), maps.requires_grad_()]
    (gradient,) = torch.autograd.grad(corrections(decoder, inputs[:3], inputs[3]).square().sum(), inputs[place])
    axes = (0, 1, 3, 4) if place == 3 else (0, 2, 3)
    assert bool((gradient.abs().sum(axes) > 0).all())


def test_gradients_reach_every_weight(decoder: SpatialDecoder) -> None:
    levels, maps = decoder_case()
    corrections(decoder, levels, maps).square().sum().backward()
    assert all(bool(parameter.grad is not None and parameter.grad.any()) for parameter in decoder.parameters())


def test_logits_are_in_full_precision_under_autocast(decoder: SpatialDecoder) -> None:
    levels, maps = decoder_case()
    exact = corrections(decoder, levels, maps)
    with torch.autocast("cpu", torch.bfloat16):
        logits = corrections(decoder, levels, maps)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("channels", "stages", "message"),
    [
        ((4, 6, 8), (16,), "decoder_channels: 1 stages for 3 encoder levels; expected 2"),
        ((4, 6, 8), (16, 8, 8), "decoder_channels: 3 stages for 3 encoder levels; expected 2"),
        ((8,), (16,), "decoder_channels: 1 stages for 1 encoder levels; expected 0"),
        ((4, 8), (9,), "num_channels (9) must be divisible by num_groups (8)"),
    ],
)
def test_stages_that_do_not_fit_the_levels_are_explained(
    channels: tuple[int, ...], stages: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its text is compared below
        SpatialDecoder(channels, stages, n_maps=1)
    assert str(caught.value) == message
