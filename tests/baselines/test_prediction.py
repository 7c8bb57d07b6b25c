"""Predictions of networks, and what is watched beside the loss, by hand."""

import math

import pytest
import torch

from baselines.prediction import (
    label_accuracy,
    label_indices,
    lesion_logits,
    lesion_targets,
    mask_scores,
    with_background,
)


def random_classes(n_classes: int) -> torch.Tensor:
    return 4 * torch.randn(2, n_classes, 5, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_lesion_logits_are_those_of_the_summed_probability(n_classes: int) -> None:
    classes = random_classes(n_classes).double()
    torch.testing.assert_close(lesion_logits(classes), classes.softmax(1)[:, 1:].sum(1).logit())


def test_lesion_logits_by_hand() -> None:
    """Background 1/2, benign 1/8 and malignant 3/8: even odds."""
    classes = torch.tensor([0.5, 0.125, 0.375]).log().view(1, 3, 1, 1)
    assert lesion_logits(classes).item() == pytest.approx(0, abs=1e-6)


def test_sure_logits_stay_finite() -> None:
    sure = torch.tensor([[1e4, -1e4, -1e4], [-1e4, 1e4, 1e4]]).view(2, 3, 1, 1)
    assert bool(lesion_logits(sure).isfinite().all())


def test_a_background_is_put_beside_lesions_by_hand() -> None:
    logits = with_background(torch.tensor([[[2.0, -1.0]]]))
    assert logits.shape == (1, 2, 1, 2)
    assert logits.argmax(1).tolist() == [[[1, 0]]]
    torch.testing.assert_close(logits.softmax(1)[:, 1], torch.tensor([[[2.0, -1.0]]]).sigmoid())


def test_lesion_logits_undo_the_background() -> None:
    lesion = random_classes(2)[:, 0]
    assert torch.equal(lesion_logits(with_background(lesion)), lesion)


def test_every_value_but_background_is_a_lesion() -> None:
    assert lesion_targets(torch.tensor([[[0, 1, 2, 3]]])).tolist() == [[[0.0, 1.0, 1.0, 1.0]]]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("normal", "benign", "malignant"), [0, 1, 2, -1]),
        (("benign", "malignant"), [-1, 0, 1, -1]),
        (("malignant", "normal"), [1, -1, 0, -1]),
        ((), [-1, -1, -1, -1]),
    ],
)
def test_labels_have_their_place_among_the_names_or_none(names: tuple[str, ...], expected: list[int]) -> None:
    assert label_indices(torch.tensor([0, 1, 2, 3]), names).tolist() == expected


def test_places_follow_the_images() -> None:
    assert label_indices(torch.tensor([2, 2, 0, 1]), ("benign", "malignant")).tolist() == [1, 1, -1, 0]


def test_masks_by_hand() -> None:
    """Dice 2/5 and, of a missed lesion, 0; the image without a lesion counts in the accuracy alone."""
    predicted = torch.tensor([[[1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0]]])
    truth = torch.tensor([[[0.0, 1, 1, 1, 0]], [[0, 0, 0, 1, 1]], [[0, 0, 0, 0, 0]]])
    scores = mask_scores(2.0 * predicted - 1, truth)
    assert scores["dice"].item() == pytest.approx((2 / 5 + 0) / 2)
    assert scores["accuracy"].item() == pytest.approx((2 + 3 + 4) / 15)


def test_without_a_lesion_there_is_no_dice() -> None:
    scores = mask_scores(torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 1, 2))
    assert math.isnan(scores["dice"].item())
    assert scores["accuracy"].item() == 0.5


def test_an_undecided_pixel_is_background() -> None:
    assert mask_scores(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))["accuracy"].item() == 1


def test_labels_by_hand() -> None:
    """Two of the three known are right."""
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]])
    assert label_accuracy(logits, torch.tensor([0, 1, 1, -1])).item() == pytest.approx(2 / 3)


def test_without_a_known_label_there_is_no_accuracy() -> None:
    assert math.isnan(label_accuracy(torch.zeros(2, 3), torch.tensor([-1, -1])).item())


def test_scores_carry_no_gradient() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    scores = [*mask_scores(logits, torch.ones(1, 4, 4)).values(), label_accuracy(logits[:, 0], torch.tensor([1]))]
    assert not any(score.requires_grad for score in scores)
