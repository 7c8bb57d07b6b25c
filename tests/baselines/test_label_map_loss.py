"""The losses that tell kinds of lesion and labels of images apart, where some are unknown; by hand."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.losses import focal_loss, label_loss, label_map_loss, regions_dice_loss

EVEN = torch.ones(3)


@pytest.fixture
def unsmoothed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.losses.SMOOTH", 0.0)


def random_case(highest: int = 2) -> tuple[Tensor, Tensor]:
    """Logits (4, 3, 6, 5) and label maps whose values go up to `highest`; in the last image all is background."""
    generator = torch.Generator().manual_seed(0)
    label_maps = torch.randint(0, highest + 1, (4, 6, 5), generator=generator)
    label_maps[3] = 0
    return 3 * torch.randn(4, 3, 6, 5, generator=generator), label_maps


def logits_of(*probabilities: tuple[float, float, float]) -> Tensor:
    """Logits (1, 3, 1, n_pixels) of each pixel's probabilities."""
    return torch.tensor(probabilities).log().T.view(1, 3, 1, -1)


# Masks


def test_without_unknown_lesions_it_is_cross_entropy_and_the_dice_of_regions() -> None:
    logits, label_maps = random_case()
    dice = regions_dice_loss(logits, label_maps)
    found = label_map_loss(logits, label_maps, class_weights=EVEN)
    torch.testing.assert_close(found, F.cross_entropy(logits, label_maps) + dice)
    found = label_map_loss(logits, label_maps, class_weights=EVEN, focal=True)
    entropy = F.cross_entropy(logits, label_maps, reduction="none")
    torch.testing.assert_close(found, focal_loss(entropy).mean() + dice)


def test_of_an_unknown_lesion_benign_and_malignant_are_right_together() -> None:
    """Background at 1/2, and a lesion of unknown kind with 1/8 benign and 5/8 malignant: -log 3/4."""
    logits = logits_of((0.5, 0.25, 0.25), (0.25, 0.125, 0.625))
    entropy = (-math.log(0.5) - math.log(0.125 + 0.625)) / 2
    dice = 1 - (2 * 0.75 + 1) / (0.5 + 0.75 + 1 + 1)
    found = label_map_loss(logits, torch.tensor([[[0, 3]]]), class_weights=EVEN)
    assert found.item() == pytest.approx(entropy + dice)


def test_focus_on_unknown_lesions_is_on_what_they_cost() -> None:
    logits, unknown = logits_of((0.25, 0.125, 0.625)), torch.tensor([[[3]]])
    found = label_map_loss(logits, unknown, class_weights=EVEN, focal=True)
    dice = 1 - (2 * 0.75 + 1) / (0.75 + 1 + 1)
    assert found.item() == pytest.approx(0.25**2 * -math.log(0.75) + dice)


def test_exchanging_kinds_does_not_matter_where_they_are_unknown() -> None:
    logits, label_maps = random_case()
    unknown = (label_maps > 0) * 3
    found = [label_map_loss(each, unknown, class_weights=EVEN) for each in (logits, logits[:, [0, 2, 1]])]
    torch.testing.assert_close(*found)


def without_dice(logits: Tensor, label_maps: Tensor, **options: Any) -> Tensor:
    return label_map_loss(logits, label_maps, **options) - regions_dice_loss(logits, label_maps)


def test_class_weights_by_hand() -> None:
    """A weighted mean: background counts 1, malignant 3; the Dice loss has no weights."""
    label_maps, weights = torch.tensor([[[0, 2]]]), torch.tensor([1.0, 2.0, 3.0])
    found = without_dice(logits_of((0.5, 0.25, 0.25), (0.25, 0.25, 0.5)), label_maps, class_weights=weights)
    assert found.item() == pytest.approx(math.log(2))
    found = without_dice(logits_of((0.5, 0.25, 0.25), (0.75, 0.125, 0.125)), label_maps, class_weights=weights)
    assert found.item() == pytest.approx((1 * math.log(2) + 3 * math.log(8)) / 4)


def test_an_unknown_lesion_has_the_mean_weight_of_both_kinds() -> None:
    """Background counts 1, the unknown lesion (2 + 6) / 2."""
    logits, label_maps = logits_of((0.5, 0.25, 0.25), (0.75, 0.125, 0.125)), torch.tensor([[[0, 3]]])
    found = without_dice(logits, label_maps, class_weights=torch.tensor([1.0, 2.0, 6.0]))
    assert found.item() == pytest.approx((math.log(2) + 4 * math.log(4)) / 5)


def test_focus_comes_before_the_weights() -> None:
    logits, label_maps = random_case()
    weights = torch.tensor([0.5, 1.0, 2.0])
    per_pixel = focal_loss(F.cross_entropy(logits, label_maps, reduction="none"))
    entropy = (weights[label_maps] * per_pixel).sum() / weights[label_maps].sum()
    torch.testing.assert_close(without_dice(logits, label_maps, class_weights=weights, focal=True), entropy)


@pytest.mark.parametrize("focal", [False, True])
@pytest.mark.parametrize("size", [0.0, 1e4])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0)])
def test_sure_logits_right_or_wrong_keep_gradients_finite(
    focal: bool, size: float, weights: tuple[float, float, float]
) -> None:
    truth, said = torch.tensor([[[0, 1, 2, 3]], [[0, 0, 1, 2]]]), torch.tensor([[[0, 2, 2, 0]], [[0, 1, 1, 1]]])
    logits = (size * F.one_hot(said, 3).movedim(-1, 1).float()).requires_grad_()
    loss = label_map_loss(logits, truth, class_weights=torch.tensor(weights), focal=focal)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert bool(gradient.isfinite().all())


def test_a_step_towards_the_truth_costs_less() -> None:
    logits, label_maps = random_case(highest=3)
    towards = torch.zeros_like(logits)
    towards[:, 0] = (label_maps == 0).float()
    towards[:, 1] = ((label_maps == 1) | (label_maps == 3)).float()
    towards[:, 2] = ((label_maps == 2) | (label_maps == 3)).float()
    losses = [label_map_loss(each, label_maps, class_weights=EVEN).item() for each in (logits + towards, logits)]
    assert losses == sorted(losses)


# The Dice loss of regions


def certain(said: list[list[int]]) -> Tensor:
    """Logits (n, 3, 1, n_pixels) that leave no doubt about what is said of each image's pixels."""
    return 60 * F.one_hot(torch.tensor(said), 3).movedim(-1, 1).unsqueeze(2).float()


def test_regions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benign overlaps by 1 of 2 and 1 pixels, malignant by 1 of 2 and 2; lesions wholly, and by 1 of 2 and 1."""
    truth = torch.tensor([[[1, 2, 0, 0]], [[0, 2, 0, 0]]])
    logits = certain([[1, 1, 0, 0], [0, 2, 2, 0]])
    smooth = [3 / 4, 3 / 5, (1 + 3 / 4) / 2]
    assert regions_dice_loss(logits, truth).item() == pytest.approx(1 - sum(smooth) / 3)
    monkeypatch.setattr("baselines.losses.SMOOTH", 0.0)
    dice = [2 * 1 / (2 + 1), 2 * 1 / (2 + 2), (1 + 2 * 1 / (2 + 1)) / 2]
    assert regions_dice_loss(logits, truth).item() == pytest.approx(1 - sum(dice) / 3)


@pytest.mark.usefixtures("unsmoothed")
def test_a_kind_that_the_batch_does_not_hold_is_left_out() -> None:
    """Benign is half right, any lesion too; that malignant is not there is no merit."""
    truth = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    logits = certain([[1, 0, 0, 0], [0, 0, 0, 0]])
    assert regions_dice_loss(logits, truth).item() == pytest.approx(1 - 2 / 3)


@pytest.mark.usefixtures("unsmoothed")
def test_images_with_a_lesion_of_unknown_kind_count_for_any_lesion_alone() -> None:
    """In the first image benign is right; what is said of the second one's kind does not matter."""
    truth = torch.tensor([[[1, 0, 0, 0]], [[3, 3, 0, 0]]])
    found = [regions_dice_loss(certain([[1, 0, 0, 0], [kind, 0, 0, 0]]), truth).item() for kind in (1, 2)]
    assert found == [pytest.approx(1 - (1 + (1 + 2 / 3) / 2) / 2)] * 2


def test_without_a_lesion_there_is_nothing_to_overlap_with() -> None:
    logits = certain([[1, 0, 0, 0]]).requires_grad_()
    loss = regions_dice_loss(logits, torch.zeros(1, 1, 4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


# Labels of whole images


def test_labels_by_hand() -> None:
    """Right with 1/2 at weight 1 and with 1/8 at weight 3; the image of unknown label is left out."""
    logits = torch.tensor([[0.5, 0.5], [0.875, 0.125], [0.9, 0.1]]).log()
    found = label_loss(logits, torch.tensor([0, 1, -1]), torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx((math.log(2) + 3 * math.log(8)) / 4)


def test_known_labels_of_even_weights_have_torch_s_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(6, 3, generator=generator), torch.randint(0, 3, (6,), generator=generator)
    torch.testing.assert_close(label_loss(logits, targets, EVEN), F.cross_entropy(logits, targets))


def test_unknown_labels_cost_nothing_and_teach_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = label_loss(logits, torch.tensor([-1, -1]), EVEN)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
