"""Losses by hand, against their definitions, and against torchvision's focal loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from baselines.losses import ClassLoss, bce_dice_loss, class_dice_loss, class_loss, dice_loss, focal_loss

CERTAIN = 100.0  # a logit whose sigmoid is 1 in float32


@pytest.fixture
def unsmoothed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.losses.SMOOTH", 0.0)


def logits_of(mask: Tensor) -> Tensor:
    return CERTAIN * (2 * mask - 1)


def random_classes(n_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (4, n_classes, 6, 5) and class indices; in the last image all is background."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, n_classes, (4, 6, 5), generator=generator)
    classes[3] = 0
    return 3 * torch.randn(4, n_classes, 6, 5, generator=generator), classes


def lesion_case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Lesion logits (4, 6, 5), the same beside a background logit of 0, and class indices."""
    logits, classes = random_classes(2, seed)
    lesion = logits[:, 1]
    return lesion, torch.stack([torch.zeros_like(lesion), lesion], dim=1), classes


def test_dice_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pixels predicted, three true, one in common."""
    predicted = torch.tensor([[[1.0, 1, 0, 0, 0]]])
    truth = torch.tensor([[[0.0, 1, 1, 1, 0]]])
    assert dice_loss(logits_of(predicted), truth).item() == pytest.approx(1 - 3 / 6)
    monkeypatch.setattr("baselines.losses.SMOOTH", 0.0)
    assert dice_loss(logits_of(predicted), truth).item() == pytest.approx(1 - 2 / 5)


@pytest.mark.usefixtures("unsmoothed")
def test_undecided_pixels_count_half() -> None:
    truth = torch.tensor([[[1.0, 1, 0, 0]]])
    assert dice_loss(torch.zeros(1, 1, 4), truth).item() == pytest.approx(1 - 2 * 1 / (2 + 2))


@pytest.mark.usefixtures("unsmoothed")
def test_images_count_alike_whatever_their_lesion_s_size() -> None:
    truth = torch.zeros(2, 8, 8)
    truth[0, 0, 0] = 1
    truth[1, :, :4] = 1
    predicted = truth.clone()
    predicted[0] = 0  # the small lesion is missed
    assert dice_loss(logits_of(predicted), truth).item() == pytest.approx(0.5)


def test_an_empty_image_costs_nothing_if_predicted_empty() -> None:
    empty = torch.zeros(1, 8, 8)
    assert dice_loss(logits_of(empty), empty).item() == pytest.approx(0)
    assert dice_loss(logits_of(1 - empty), empty).item() == pytest.approx(1 - 1 / 65)


def test_both_losses_are_added() -> None:
    logits = torch.tensor([[[0.0, math.log(3)]]])  # probabilities 1/2 and 3/4
    truth = torch.tensor([[[0.0, 1.0]]])
    entropy = (math.log(2) + math.log(4 / 3)) / 2
    dice = 1 - (2 * 0.75 + 1) / (1.25 + 1 + 1)
    assert bce_dice_loss(logits, truth).item() == pytest.approx(entropy + dice)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    loss = bce_dice_loss(logits, torch.tensor([[[0.0, 1.0]]]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9))
def test_dice_loss_lies_between_0_and_1(seed: int, n: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(n, height, width, generator=generator)
    truth = (torch.rand(n, height, width, generator=generator) < 0.3).float()
    assert 0 <= dice_loss(logits, truth).item() <= 1
    better = logits + 2 * (2 * truth - 1)
    assert bce_dice_loss(better, truth).item() < bce_dice_loss(logits, truth).item()


# Several classes


def test_cross_entropy_is_torch_s() -> None:
    logits, classes = random_classes()
    assert torch.equal(class_loss(logits, classes, "cross-entropy"), F.cross_entropy(logits, classes))


@pytest.mark.parametrize("kind", ["cross-entropy", "cross-entropy-dice"])
def test_with_a_background_logit_of_0_two_classes_are_the_binary_loss(kind: ClassLoss) -> None:
    lesion, both, classes = lesion_case()
    binary = bce_dice_loss if kind == "cross-entropy-dice" else F.binary_cross_entropy_with_logits
    torch.testing.assert_close(class_loss(both, classes, kind), binary(lesion, classes.float()))


@pytest.mark.parametrize("kind", ["cross-entropy", "cross-entropy-dice", "focal-dice"])
def test_only_differences_between_logits_count(kind: ClassLoss) -> None:
    logits, classes = random_classes()
    shifted = logits + torch.randn(4, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(class_loss(shifted, classes, kind), class_loss(logits, classes, kind))


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    entropy = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(focal_loss(entropy, gamma=0.0), entropy)


def test_focal_loss_by_hand() -> None:
    """A pixel that is right with probability 3/4 counts a sixteenth of its entropy, one at 1/2 a quarter."""
    entropy = torch.tensor([math.log(4 / 3), math.log(2)])
    torch.testing.assert_close(focal_loss(entropy), entropy / torch.tensor([16.0, 4]))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_is_torchvision_s(gamma: float) -> None:
    lesion, both, classes = lesion_case()
    found = focal_loss(F.cross_entropy(both, classes, reduction="none"), gamma)
    expected = sigmoid_focal_loss(lesion, classes.float(), alpha=-1, gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_focal_dice_is_the_sum_of_both() -> None:
    lesion, both, classes = lesion_case()
    expected = sigmoid_focal_loss(lesion, classes.float(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(class_loss(both, classes, "focal-dice"), expected + dice_loss(lesion, classes.float()))


def test_dice_of_classes_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Class 1: two pixels predicted, three true, one in common; class 2: one predicted and true; no background."""
    predicted = torch.tensor([[[1, 1, 0, 0, 0, 2]]])
    truth = torch.tensor([[[0, 1, 1, 1, 0, 2]]])
    logits = CERTAIN * F.one_hot(predicted).movedim(-1, 1).float()
    assert class_dice_loss(logits, truth).item() == pytest.approx(1 - (3 / 6 + 1) / 2)
    monkeypatch.setattr("baselines.losses.SMOOTH", 0.0)
    assert class_dice_loss(logits, truth).item() == pytest.approx(1 - (2 / 5 + 1) / 2)


def test_dice_of_every_class_is_the_dice_of_its_probability() -> None:
    logits, classes = random_classes()
    probabilities = logits.softmax(1)
    expected = [dice_loss(probabilities[:, k].logit(), (classes == k).float()) for k in (1, 2)]
    torch.testing.assert_close(class_dice_loss(logits, classes), torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def test_a_class_that_is_absent_and_not_predicted_costs_nothing() -> None:
    truth = torch.zeros(1, 6, 5, dtype=torch.int64)
    logits = CERTAIN * F.one_hot(truth, 3).movedim(-1, 1).float()
    assert class_dice_loss(logits, truth).item() == pytest.approx(0)


@pytest.mark.parametrize("kind", ["cross-entropy", "cross-entropy-dice", "focal-dice"])
def test_classes_exchanged_together_cost_the_same(kind: ClassLoss) -> None:
    logits, classes = random_classes()
    exchanged = class_loss(logits[:, [0, 2, 1]], torch.tensor([0, 2, 1])[classes], kind)
    torch.testing.assert_close(exchanged, class_loss(logits, classes, kind))


@pytest.mark.parametrize("kind", ["cross-entropy", "cross-entropy-dice", "focal-dice"])
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_sure_logits_right_or_wrong_keep_gradients_finite(kind: ClassLoss, size: float) -> None:
    truth = torch.tensor([[[0, 1, 2]]])
    said = torch.tensor([[[0, 2, 2]]])
    logits = (size * F.one_hot(said).movedim(-1, 1).float()).requires_grad_()
    loss = class_loss(logits, truth, kind)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert bool(gradient.isfinite().all())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["cross-entropy", "cross-entropy-dice", "focal-dice"]))
def test_a_step_towards_the_truth_costs_less(seed: int, kind: ClassLoss) -> None:
    logits, classes = random_classes(seed=seed)
    better = logits + F.one_hot(classes, 3).movedim(-1, 1)
    assert 0 < class_loss(better, classes, kind).item() < class_loss(logits, classes, kind).item()
