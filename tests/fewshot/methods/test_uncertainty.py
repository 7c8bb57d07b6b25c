"""Several predictions of one image: their mean, their entropy, and what of it is disagreement."""

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from baselines.prediction import Prediction, lesion_logits, with_background
from fewshot.config.parsing import ConfigError
from fewshot.methods.contract import Ingredients, Sources
from fewshot.methods.supervised import ZeroShot
from fewshot.methods.uncertainty import Sampling, binary_entropy, dropout_on, pool_predictions, predict
from tests.fewshot.made_stores import picture
from tests.fewshot.small_networks import CPU, small_network

IMAGES = torch.stack([torch.from_numpy(picture(n)).float().div(255).expand(3, -1, -1) for n in range(2)])


def of_probabilities(values: Sequence[Sequence[float]], labels: Sequence[float] | None = None) -> Prediction:
    """One image of one row of pixels, each with its classes' probabilities."""
    classes = torch.tensor(values).T.log()[None, :, None]
    return Prediction(classes, None if labels is None else torch.tensor([labels]).log())


def of_lesion(*probabilities: float) -> Prediction:
    return of_probabilities([(1 - p, p) for p in probabilities])


class Toy(nn.Module):
    """Lesion logits that look at a pixel and, unless it is equivariant, at where it lies; two labels by brightness."""

    def __init__(self, equivariant: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.equivariant = equivariant
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.BatchNorm2d(3)

    def predict(self, images: Tensor) -> Prediction:
        place = 0.0 if self.equivariant else torch.linspace(0, 2, images.shape[-1])
        lesion = self.dropout(4 * images[:, 0] - 2) + place
        brightness = images.mean((1, 2, 3))
        return Prediction(with_background(lesion), torch.stack([brightness, -brightness], 1))


# The mean


def test_predictions_are_averaged_as_probabilities() -> None:
    one = of_probabilities([(0.5, 0.3, 0.2), (0.8, 0.1, 0.1)], [0.9, 0.1])
    other = of_probabilities([(0.1, 0.1, 0.8), (0.2, 0.4, 0.4)], [0.5, 0.5])
    pooled = pool_predictions([one, other])
    expected = torch.tensor([[0.3, 0.2, 0.5], [0.5, 0.25, 0.25]])
    torch.testing.assert_close(pooled.prediction.classes.softmax(1)[0, :, 0].T, expected)
    assert pooled.prediction.labels is not None
    torch.testing.assert_close(pooled.prediction.labels.softmax(1)[0], torch.tensor([0.7, 0.3]))
    torch.testing.assert_close(lesion_logits(pooled.prediction.classes).sigmoid()[0, 0], torch.tensor([0.7, 0.5]))


def test_a_single_prediction_is_its_own_mean() -> None:
    one = of_lesion(0.2, 0.5)
    pooled = pool_predictions([one])
    assert pooled.prediction is one
    assert pooled.disagreement.tolist() == [[[0, 0]]]
    torch.testing.assert_close(pooled.entropy[0, 0], torch.tensor([0.721928, 1.0]))


def test_predictions_without_labels_have_none() -> None:
    assert pool_predictions([of_lesion(0.2), of_lesion(0.4)]).prediction.labels is None


# Entropy and disagreement


@pytest.mark.parametrize(("probability", "bits"), [(0.0, 0), (1.0, 0), (0.5, 1), (0.25, 2 - 0.75 * math.log2(3))])
def test_entropy_is_in_bits(probability: float, bits: float) -> None:
    assert binary_entropy(torch.tensor(probability)).item() == pytest.approx(bits, abs=1e-6)


def test_equal_members_do_not_disagree_however_unsure() -> None:
    pooled = pool_predictions([of_lesion(0.5, 0.1, 0.9)] * 3)
    torch.testing.assert_close(pooled.disagreement, torch.zeros(1, 1, 3), atol=1e-6, rtol=0)
    assert pooled.entropy[0, 0, 0] == pytest.approx(1)


def test_members_sure_of_opposites_disagree_as_much_as_can_be() -> None:
    pooled = pool_predictions([Prediction(torch.tensor([[[[0.0]], [[logit]]]])) for logit in (-200.0, 200.0)])
    assert pooled.entropy.item() == pooled.disagreement.item() == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=5))
def test_disagreement_is_part_of_entropy_which_is_at_most_a_bit(probabilities: list[float]) -> None:
    pooled = pool_predictions([of_lesion(probability) for probability in probabilities])
    assert 0 <= pooled.disagreement.item() <= pooled.entropy.item() <= 1


def test_entropy_is_of_any_lesion_against_background() -> None:
    """Which of two kinds it is does not matter: half background, half any lesion."""
    assert pool_predictions([of_probabilities([(0.5, 0.25, 0.25)])]).entropy.item() == pytest.approx(1)
    assert pool_predictions([of_probabilities([(0.01, 0.495, 0.495)])]).entropy.item() < 0.1


# Flips


def test_flips_average_an_image_with_its_mirror_image() -> None:
    network = Toy()
    found = pool_predictions(Sampling(flips=True).predictions(network, IMAGES)).prediction.classes.softmax(1)
    mirrored = network.predict(IMAGES.flip(-1)).classes.flip(-1)
    torch.testing.assert_close(found, (network.predict(IMAGES).classes.softmax(1) + mirrored.softmax(1)) / 2)
    assert not torch.allclose(found, network.predict(IMAGES).classes.softmax(1), atol=0.01)


def test_flips_change_nothing_for_a_network_that_does_not_see_sides() -> None:
    network = Toy(equivariant=True)
    pooled = pool_predictions(Sampling(flips=True).predictions(network, IMAGES))
    alone = network.predict(IMAGES)
    torch.testing.assert_close(pooled.prediction.classes.softmax(1), alone.classes.softmax(1))
    torch.testing.assert_close(pooled.prediction.labels.softmax(1), alone.labels.softmax(1))  # type: ignore[union-attr]
    torch.testing.assert_close(pooled.disagreement, torch.zeros_like(pooled.disagreement), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("flips", "samples", "count"), [(False, 0, 1), (True, 0, 2), (False, 3, 3), (True, 3, 6)])
def test_there_are_as_many_predictions_as_asked_for(flips: bool, samples: int, count: int) -> None:
    assert len(Sampling(flips, samples).predictions(Toy(dropout=0.5).eval(), IMAGES)) == count


# Dropout


def test_dropout_samples_are_reproducible_and_differ() -> None:
    network = Toy(dropout=0.5).eval()
    first, again = (Sampling(dropout_samples=3, seed=4).predictions(network, IMAGES) for _ in range(2))
    other = Sampling(dropout_samples=3, seed=5).predictions(network, IMAGES)
    assert all(torch.equal(one.classes, two.classes) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0].classes, first[1].classes)
    assert not torch.equal(first[0].classes, other[0].classes)
    assert pool_predictions(first).disagreement.max() > 0.01


def test_dropout_leaves_modes_statistics_and_global_random_numbers_alone() -> None:
    network = Toy(dropout=0.5).eval()
    modes = {name: module.training for name, module in network.named_modules()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    Sampling(flips=True, dropout_samples=2).predictions(network, IMAGES)
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert torch.equal(torch.rand(2), expected)
    with dropout_on(network):
        assert network.dropout.training
        assert not network.norm.training
    with pytest.raises(RuntimeError), dropout_on(network):
        raise RuntimeError
    assert not network.dropout.training


def test_a_network_s_own_dropout_is_found() -> None:
    """Of labels alone, so that masks do not differ."""
    network = small_network("multitask-unet").eval()
    Sampling(dropout_samples=2).check(network)
    with torch.inference_mode():
        one, other = Sampling(dropout_samples=2).predictions(network, IMAGES)
    assert torch.equal(one.classes, other.classes)
    assert not torch.equal(one.labels, other.labels)  # type: ignore[arg-type]


# Refusals


@pytest.mark.parametrize("network", [Toy(), nn.Conv2d(3, 1, 1)])
def test_dropout_of_a_network_without_any_is_refused(network: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"was trained without dropout.*model\.options\.dropout"):
        Sampling(dropout_samples=2).check(network)
    Sampling(flips=True).check(network)


def test_a_negative_number_of_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="dropout_samples is -1; expected 0 or more"):
        Sampling(dropout_samples=-1).check(Toy(dropout=0.5))


# As a method


def test_a_network_with_nothing_but_lesion_logits_predicts_them() -> None:
    class Own(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0] - 0.5

    found = predict(Own(), IMAGES)
    assert found.labels is None
    torch.testing.assert_close(lesion_logits(found.classes), IMAGES[:, 0] - 0.5)


def test_a_method_segments_by_the_mean_of_its_samples() -> None:
    network = small_network("deep-resnet").eval()
    method = ZeroShot(Ingredients(network, Sources(None, ()), CPU), flips=True)  # type: ignore[arg-type]
    with torch.inference_mode():
        adapted = method.adapt(None)
        samples = method.sample(IMAGES, adapted)
        found = method.segment(IMAGES, adapted).softmax(1)[:, 1]
    expected = torch.stack([lesion_logits(sample.classes).sigmoid() for sample in samples]).mean(0)
    assert len(samples) == 2
    torch.testing.assert_close(found, expected)
