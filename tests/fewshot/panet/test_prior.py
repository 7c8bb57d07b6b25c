"""Prior prototypes by hand, and how evidence must move them: by its number and its agreement."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewshot.panet.network import PrototypeMatcher, Prototypes
from fewshot.panet.prior import PriorPrototypes


def prior_of(background: list[float], lesion: list[float], strength: float) -> PriorPrototypes:
    prior = PriorPrototypes(len(lesion), strength)
    with torch.no_grad():
        prior.vectors.copy_(torch.tensor([background, lesion]))
    return prior


def shots_of(pairs: list[list[list[float]]]) -> Tensor:
    """One way's shots, each a background and a lesion vector: (1 way, n_shot, 2, channels)."""
    return torch.tensor(pairs).unsqueeze(0)


def angle(one: Tensor, other: Tensor) -> float:
    """Between two directions, in radians, exact also for small ones."""
    one, other = (F.normalize(vector.detach().double(), dim=0) for vector in (one, other))
    return 2 * math.atan2(float((one - other).norm()), float((one + other).norm()))


# By hand


def test_the_posterior_by_hand() -> None:
    """Only directions count: a shot's length says nothing, nor does the prior vectors'."""
    prior = prior_of([-5, 0], [0, 0.01], strength=2)
    shots = shots_of([[[0, -7], [3, 0]], [[-0.1, 0], [0, 9]]])
    # Background: 2 (-1, 0) + (0, -1) + (-1, 0); lesion: 2 (0, 1) + (1, 0) + (0, 1).
    torch.testing.assert_close(prior(shots), torch.tensor([[-3.0, -1], [1, 3]]))


def test_background_takes_evidence_of_all_ways_and_a_class_of_its_own_alone() -> None:
    prior = prior_of([-1, 0], [0, 1], strength=1)
    ways = torch.cat([shots_of([[[0, -1], [1, 0]]]), shots_of([[[0, -1], [0, 1]]])])
    torch.testing.assert_close(prior(ways), torch.tensor([[-1.0, -2], [1, 1], [0, 2]]))


def test_shot_weights_share_the_evidence_out() -> None:
    prior = prior_of([-1, 0], [0, 1], strength=1)
    shots = shots_of([[[0, -1], [1, 0]], [[-1, 0], [0, 1]]])
    torch.testing.assert_close(prior(shots, torch.tensor([[0.5, 0.5]])), prior(shots))
    # All weight on the first shot: it counts for both.
    torch.testing.assert_close(prior(shots, torch.tensor([[1.0, 0]])), torch.tensor([[-1.0, -2], [2, 1]]))


def test_without_shots_the_prior_remains() -> None:
    prior = prior_of([-3, 0], [0, 0.5], strength=2)
    torch.testing.assert_close(prior(torch.zeros(3, 1, 0, 2, 2)), torch.tensor([[-2.0, 0], [0, 2]]).expand(3, 2, 2))
    torch.testing.assert_close(prior(torch.zeros(2, 0, 2, 2)), torch.tensor([[-2.0, 0], [0, 2], [0, 2]]))


def test_an_empty_region_brings_no_evidence() -> None:
    prior = prior_of([-1, 0], [0, 1], strength=1)
    seen = [[0.0, -1], [1.0, 0]]
    missed = [[0.0, -1], [0.0, 0]]  # a shot without lesion
    torch.testing.assert_close(prior(shots_of([seen, missed]))[1], prior(shots_of([seen]))[1])
    torch.testing.assert_close(prior(shots_of([seen, missed]))[0], torch.tensor([-1.0, -2]))


def test_a_prior_worth_many_shots_hardly_moves() -> None:
    shots = shots_of([[[0, -1], [1, 0]]])
    turned = [angle(prior_of([-1, 0], [0, 1], k)(shots)[1], torch.tensor([0.0, 1])) for k in (0.01, 1, 100)]
    assert turned[0] == pytest.approx(math.pi / 2, abs=0.011)
    assert turned[1:] == pytest.approx([math.pi / 4, 0.01], rel=1e-4)


# By number and agreement


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), strength=st.floats(0.1, 20))
def test_more_agreeing_shots_bring_the_prototype_nearer_to_them(seed: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(3, 8, generator=generator)
    prior = prior_of(vectors[0].tolist(), vectors[0].tolist(), strength)
    angles = [angle(prior(vectors[1:].expand(1, k, 2, 8))[1], vectors[2]) for k in range(6)]
    assert all(later < earlier for earlier, later in pairwise(angles))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n_pairs=st.integers(1, 3), spread=st.floats(0.2, 1.4))
def test_shots_that_disagree_move_the_prototype_less(seed: int, n_pairs: int, spread: float) -> None:
    """The same number of shots with the same mean direction, once all alike and once spread about it."""
    generator = torch.Generator().manual_seed(seed)
    mean, aside = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q.T
    prior = prior_of([1.0] * 8, torch.randn(8, generator=generator).tolist(), 2.0)
    pair = torch.stack([math.cos(spread) * mean + sign * math.sin(spread) * aside for sign in (-1, 1)])

    def moved(vectors: Tensor) -> float:
        return angle(prior(vectors.unsqueeze(1).expand(1, -1, 2, 8))[1], mean)

    assert moved(mean.expand(2 * n_pairs, 8)) < moved(pair.repeat(n_pairs, 1))


# In the matcher


@pytest.mark.parametrize("options", [{}, {"attention": True}, {"grid": 2}, {"attention": True, "grid": 2}])
def test_an_episode_that_loses_its_support_set_is_left_with_the_prior(options: dict[str, bool | int]) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 2, 2, 8, 4, 4, generator=generator)
    query = torch.randn(3, 2, 8, 4, 4, generator=generator)
    masks = torch.zeros(3, 2, 2, 16, 16)
    masks[..., :8, :8] = 1
    matcher = PrototypeMatcher(8, prior=True, **options)  # type: ignore[arg-type]
    all_kept = matcher(query, matcher.adapt(features, masks))
    without = matcher(query, matcher.adapt(features[:, :, :0], masks[:, :, :0]))
    some = matcher(query, matcher.adapt(features, masks, torch.tensor([True, False, True])))
    torch.testing.assert_close(some[[0, 2]], all_kept[[0, 2]])
    torch.testing.assert_close(some[1], without[1])
    assert not torch.allclose(some[1], all_kept[1])


def test_an_empty_mask_leaves_the_lesion_to_the_prior_and_its_image_to_the_background() -> None:
    matcher = PrototypeMatcher(8, prior=True)
    features = torch.randn(1, 1, 1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    vectors = []
    for masks in (torch.zeros(1, 1, 1, 16, 16), torch.ones(1, 1, 1, 16, 16)):
        adapted = matcher.adapt(features, masks)
        assert isinstance(adapted, Prototypes)
        vectors.append(adapted.vectors[0, 0])
    assert matcher.prior is not None
    alone, image = matcher.prior(torch.zeros(1, 0, 2, 8)), F.normalize(features.mean((-2, -1)).view(8), dim=0)
    torch.testing.assert_close(vectors[0], torch.stack([alone[0] + image, alone[1]]))
    torch.testing.assert_close(vectors[1], torch.stack([alone[0], alone[1] + image]))
