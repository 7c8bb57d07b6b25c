"""Logits of classes, lesions and labels, and the targets they are held against."""

import pytest
import torch

from baselines.prediction import label_indices, lesion_logits, lesion_targets, with_background


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
