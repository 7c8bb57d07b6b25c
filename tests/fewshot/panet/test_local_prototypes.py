"""Prototypes of a grid and of the query itself, against plain loops and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewshot.panet.blocks import unit
from fewshot.panet.local_prototypes import grid_prototypes, match_several, self_support, several_cosines
from fewshot.panet.network import PrototypeMatcher
from fewshot.panet.panet import cosine_similarity

TEMPERATURE = torch.tensor(20.0)


def shares_of(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of each feature's surroundings a mask covers, by the gradient of bilinear upsampling."""
    pulled = []
    for weights in (mask, torch.ones_like(mask)):
        features = torch.zeros(1, 1, *grid, requires_grad=True)
        upsampled = F.interpolate(features, size=mask.shape, mode="bilinear", align_corners=False)
        pulled.append(torch.autograd.grad((upsampled * weights).sum(), features)[0][0, 0])
    return pulled[0] / pulled[1]


def block_masks(*shape: int, size: int = 48) -> Tensor:
    """Lesions made of whole quarters of the image's sides."""
    generator = torch.Generator().manual_seed(0)
    blocks = (torch.rand(*shape, 4, 4, generator=generator) < 0.5).float()
    return F.interpolate(blocks.reshape(-1, 1, 4, 4), size=(size, size)).view(*shape, size, size)


# The grid


@pytest.mark.parametrize("cells", [1, 2, 4])
def test_the_grid_equals_plain_loops(cells: int) -> None:
    features = torch.randn(2, 3, 5, 24, 24, generator=torch.Generator().manual_seed(1))  # 2 ways, 3 shots
    masks = block_masks(2, 3)
    vectors, valid = grid_prototypes(features, masks, cells)
    assert vectors.shape == (3, 2 * 3 * cells**2, 5)
    assert valid.shape == (3, 2 * 3 * cells**2)
    side, place = 24 // cells, 0
    for way, shot in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        share = shares_of(masks[way, shot], (24, 24))
        for row, column in torch.cartesian_prod(torch.arange(cells), torch.arange(cells)).tolist():
            cell = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
            mean, inside = features[way, shot][:, *cell].mean((1, 2)), float(share[cell].mean())
            torch.testing.assert_close(vectors[:, place], mean.expand(3, -1), rtol=1e-4, atol=1e-6)
            filled = [inside <= 0.05, inside >= 0.95 and way == 0, inside >= 0.95 and way == 1]
            assert valid[:, place].tolist() == filled
            place += 1
    assert bool(valid.any(1).all()) == (cells == 4)  # the masks' blocks fill no larger cell


def test_a_cell_that_both_regions_share_is_a_prototype_of_neither() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :4] = 1  # half of the left cells
    _, valid = grid_prototypes(torch.zeros(1, 1, 3, 8, 8), mask, cells=2)
    assert valid.tolist() == [[False, True, False, True], [False, False, False, False]]


def test_a_way_has_cells_of_its_own_images_and_background_those_of_all() -> None:
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, 0], masks[1, 0, :8] = 1, 1
    _, valid = grid_prototypes(torch.zeros(2, 1, 3, 8, 8), masks, cells=1)
    assert valid.tolist() == [[False, False], [True, False], [False, False]]
    masks[1, 0] = 0
    _, valid = grid_prototypes(torch.zeros(2, 1, 3, 8, 8), masks, cells=1)
    assert valid.tolist() == [[False, True], [True, False], [False, False]]


def test_episodes_have_grids_of_their_own() -> None:
    features, masks = torch.randn(3, 2, 2, 5, 8, 8, generator=torch.Generator().manual_seed(1)), block_masks(3, 2, 2)
    vectors, valid = grid_prototypes(features, masks, 4)
    for episode in range(3):
        alone = grid_prototypes(features[episode], masks[episode], 4)
        torch.testing.assert_close(vectors[episode], alone[0])
        assert torch.equal(valid[episode], alone[1])


# Matching with several prototypes


def random_prototypes(n_query: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Query features, 4 prototypes of 3 classes, and which of them count, of 2 episodes with 2 queries."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 2, 5, 3, 4, generator=generator)
    vectors = torch.randn(2, n_query, 3, 4, 5, generator=generator)
    valid = torch.rand(2, n_query, 3, 4, generator=generator) < 0.5
    valid[..., 0] = True
    return features, vectors, valid


@pytest.mark.parametrize("n_query", [1, 2])
def test_matching_equals_plain_loops(n_query: int) -> None:
    features, vectors, valid = random_prototypes(n_query)
    found = match_several(several_cosines(features, vectors), valid, TEMPERATURE)
    assert found.shape == (2, 2, 3, 3, 4)
    for e, q, k in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(3)).tolist():
        own = vectors[e, q % n_query, k][valid[e, q % n_query, k]]
        cosines = torch.stack([F.cosine_similarity(features[e, q], vector[:, None, None], dim=0) for vector in own])
        torch.testing.assert_close(found[e, q, k], ((TEMPERATURE * cosines).softmax(0) * cosines).sum(0))


def test_one_prototype_per_class_is_the_plain_cosine() -> None:
    features, vectors, valid = random_prototypes(n_query=1)
    expected = cosine_similarity(features, vectors[:, 0, :, 0])
    torch.testing.assert_close(
        match_several(several_cosines(features, vectors[..., :1, :]), valid[..., :1], TEMPERATURE), expected
    )
    only_first = torch.zeros_like(valid)
    only_first[..., 0] = True
    torch.testing.assert_close(match_several(several_cosines(features, vectors), only_first, TEMPERATURE), expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_similarity_lies_between_the_mean_and_the_nearest_prototype_s(seed: int) -> None:
    features, vectors, _ = random_prototypes(1, seed)
    valid = torch.ones(2, 1, 3, 4, dtype=torch.bool)
    every = torch.einsum("eqchx,ekpc->eqkphx", unit(features, 2), unit(vectors[:, 0], -1))
    found = match_several(several_cosines(features, vectors), valid, TEMPERATURE)
    assert bool((found <= every.amax(3) + 1e-6).all())
    assert bool((found >= every.mean(3) - 1e-6).all())
    torch.testing.assert_close(
        match_several(several_cosines(features, vectors), valid, torch.tensor(1e-6)), every.mean(3)
    )
    torch.testing.assert_close(
        match_several(several_cosines(features, vectors), valid, torch.tensor(1e6)), every.amax(3)
    )


def test_a_prototype_that_does_not_count_changes_nothing() -> None:
    features, vectors, valid = random_prototypes(n_query=2)
    other = torch.where(valid.unsqueeze(-1), vectors, -vectors)
    torch.testing.assert_close(
        *(match_several(several_cosines(features, v), valid, TEMPERATURE) for v in (vectors, other))
    )


def test_the_grid_keeps_apart_what_one_mean_would_mix() -> None:
    """Background of two tissues: each is recognised as such, though the mean of both resembles neither."""
    tissues = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])  # two of background, one of lesion
    mask = torch.zeros(1, 1, 1, 16, 16)
    mask[..., 8:, 8:] = 1
    features = tissues[torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 2, 2], [1, 1, 2, 2]])].permute(2, 0, 1)
    query = tissues.T.reshape(1, 1, 3, 1, 3)
    matchers = [PrototypeMatcher(3, grid=cells) for cells in (0, 2)]
    plain, local = [matcher(query, matcher.adapt(features[None, None, None], mask))[0, 0] for matcher in matchers]
    assert plain[0, 0, 0] < 10 < 19 < local[0, 0, 0]  # 20 times the cosine; most of the mean is the other tissue
    assert bool((local.argmax(0)[0] == torch.tensor([0, 0, 1])).all())


# The query's own pixels


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_self_support_by_hand() -> None:
    """Sure of lesion: the first pixel; sure of background: the second; the third is unsure."""
    features = torch.tensor([[3.0, 0, 9], [0, 5, 9]]).view(1, 1, 2, 1, 3)
    lesion = torch.tensor([logit(0.71), logit(0.39), logit(0.45)])
    logits = torch.stack([torch.zeros(3), lesion]).view(1, 1, 2, 1, 3)
    prototypes = torch.tensor([[2.0, 0], [0, 0.1]]).view(1, 1, 2, 2)
    found = self_support(features, logits, prototypes)
    half = math.sqrt(0.5)  # (1, 0) and (0, 1) meet half-way
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2), half))


@pytest.mark.parametrize(("probability", "moved"), [(0.69, False), (0.71, True), (0.41, False), (0.39, False)])
def test_a_lesion_pixel_counts_from_seven_tenths_on(probability: float, moved: bool) -> None:
    logits = torch.tensor([0, logit(probability)]).view(1, 1, 2, 1, 1)
    found = self_support(torch.tensor([0.0, 1]).view(1, 1, 2, 1, 1), logits, torch.tensor([[[[1.0, 0], [1.0, 0]]]]))
    assert bool(found[0, 0, 1, 1] > 0) == moved
    assert bool(found[0, 0, 0, 1] > 0) == (probability < 0.4)  # background from six tenths on


def test_confident_pixels_are_averaged() -> None:
    features = torch.tensor([[1.0, 3], [2, 4]]).view(1, 1, 2, 1, 2)
    logits = torch.tensor([[-9.0, -9], [9, 9]]).view(1, 1, 2, 1, 2)
    prototypes = torch.tensor([[1.0, 0], [1, 0]]).view(1, 1, 2, 2)
    expected = F.normalize(torch.tensor([1.0, 0]) + F.normalize(torch.tensor([2.0, 3]), dim=0), dim=0)
    torch.testing.assert_close(self_support(features, logits, prototypes)[0, 0, 1], expected)


def test_without_a_confident_pixel_prototypes_keep_their_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    features, prototypes = torch.randn(2, 3, 5, 4, 4, generator=generator), torch.randn(2, 1, 3, 5, generator=generator)
    found = self_support(features, torch.zeros(2, 3, 3, 4, 4), prototypes)
    torch.testing.assert_close(found, unit(prototypes, -1).expand(2, 3, 3, 5))


def test_every_query_supports_itself_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matcher = PrototypeMatcher(5, self_support=True)
    support, masks = torch.randn(2, 1, 1, 5, 4, 4, generator=generator), block_masks(2, 1, 1)
    queries = torch.randn(2, 3, 5, 4, 4, generator=generator)
    adapted = matcher.adapt(support, masks)
    alone = torch.cat([matcher(queries[:, q : q + 1], adapted) for q in range(3)], dim=1)
    torch.testing.assert_close(matcher(queries, adapted), alone)
    plain = PrototypeMatcher(5)
    assert not torch.allclose(plain(queries, plain.adapt(support, masks)), alone)


def test_a_grid_finer_than_the_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid: 5 cells along a side of features 4x6; give fewer, or larger images"):
        grid_prototypes(torch.ones(1, 1, 2, 4, 6), torch.ones(1, 1, 8, 12), 5)
