"""The alignment loss against plain loops, and what it does where a way is predicted nowhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fewshot.panet.prototypes import alignment_loss
from tests.fewshot import plain_panet

TEMPERATURE = plain_panet.TEMPERATURE


def random_case(
    n_way: int, n_shot: int, n_query: int = 2, n_episodes: int = 2
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support features and masks, query features and logits; every class is predicted somewhere."""
    generator = torch.Generator().manual_seed(n_way * 10 + n_shot)
    support = torch.randn(n_episodes, n_way, n_shot, 8, 6, 5, generator=generator)
    masks = (torch.rand(n_episodes, n_way, n_shot, 24, 20, generator=generator) < 0.4).float()
    query = torch.randn(n_episodes, n_query, 8, 6, 5, generator=generator)
    logits = torch.randn(n_episodes, n_query, 1 + n_way, 6, 5, generator=generator)
    return support, masks, query, logits


def plain(support: Tensor, masks: Tensor, query: Tensor, logits: Tensor) -> Tensor:
    episodes = zip(support.double(), masks.double(), query.double(), logits.double(), strict=True)
    return torch.stack([plain_panet.alignment(*episode) for episode in episodes]).mean()


@pytest.mark.parametrize(("n_way", "n_shot"), [(1, 1), (1, 5), (2, 3), (3, 2)])
def test_loss_and_gradients_equal_plain_loops(n_way: int, n_shot: int) -> None:
    case = random_case(n_way, n_shot)
    support, query = case[0].requires_grad_(), case[2].requires_grad_()
    loss, unaligned = alignment_loss(*case, TEMPERATURE)
    expected = plain(*case)
    assert unaligned.item() == 0
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(loss, (support, query))
    for ours, theirs in zip(found, torch.autograd.grad(expected, (support, query)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_way_predicted_nowhere_is_left_out_and_counted() -> None:
    support, masks, query, logits = random_case(n_way=2, n_shot=3)
    logits[0, :, 2] = -100  # the first episode's second way
    loss, unaligned = alignment_loss(support, masks, query, logits, TEMPERATURE)
    assert unaligned.item() == 1
    torch.testing.assert_close(loss.double(), plain(support, masks, query, logits), rtol=1e-5, atol=1e-5)


def test_without_any_predicted_way_the_loss_is_zero_and_its_gradient_finite() -> None:
    support, masks, query, logits = random_case(n_way=2, n_shot=1)
    logits[:, :, 1:] = -100
    loss, unaligned = alignment_loss(support, masks, query.requires_grad_(), logits, TEMPERATURE)
    assert loss.item() == 0
    assert unaligned.item() == 4
    loss.backward()
    assert query.grad is not None
    assert not query.grad.any()


def test_without_predicted_background_the_loss_is_finite() -> None:
    support, masks, query, logits = random_case(n_way=1, n_shot=2)
    logits[:, :, 0] = -100
    loss, unaligned = alignment_loss(support, masks, query.requires_grad_(), logits, TEMPERATURE)
    assert unaligned.item() == 0
    torch.testing.assert_close(loss.double(), plain(support, masks, query, logits), rtol=1e-5, atol=1e-5)
    loss.backward()
    assert query.grad is not None
    assert bool(query.grad.isfinite().all())


def test_the_loss_is_small_where_query_and_support_agree() -> None:
    """Two orthogonal features, one inside and one outside the lesion, in support and query alike."""
    mask = torch.zeros(8, 8)
    mask[2:6, 2:6] = 1
    maps = torch.stack([mask, 1 - mask])
    support, query = maps.view(1, 1, 1, 2, 8, 8), maps.view(1, 1, 2, 8, 8)
    logits = F.one_hot(mask.long(), 2).permute(2, 0, 1).float().view(1, 1, 2, 8, 8)
    loss, _ = alignment_loss(support, mask.view(1, 1, 1, 8, 8), query, logits, TEMPERATURE)
    # Every pixel has 20 for its own class and 0 for the other.
    assert loss.item() == pytest.approx(0, abs=1e-7)
    swapped, _ = alignment_loss(support, 1 - mask.view(1, 1, 1, 8, 8), query, logits, TEMPERATURE)
    assert swapped.item() == pytest.approx(20, abs=1e-4)
