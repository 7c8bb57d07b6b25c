"""Several levels' logits and their learned mean, by hand."""

import math

import pytest
import torch
from torch import Tensor

from fewshot.panet.matching import PrototypeMatcher
from fewshot.panet.multilevel import MultiLevelMatcher
from fewshot.panet.prototypes import resize_logits
from fewshot.panet.ridge import RidgeMatcher
from fewshot.panet.scalars import LearnedScalars

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
