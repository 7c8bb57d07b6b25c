"""Uncertainty: several predictions of the same images, their mean, entropy and disagreement."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from baselines.prediction import Prediction, lesion_logits, with_background
from fewshot.config.parsing import ConfigError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Repeated predictions of the same images by one network.

    With `flips` it is also asked about the images mirrored left to right, and the answer is mirrored back; with
    `dropout_samples` so many times with dropout as in training (Monte-Carlo dropout, Gal and Ghahramani, ICML 2016), 0
    for once without. The seed is that of the dropout.
    """

    flips: bool = False
    dropout_samples: int = 0
    seed: int = 0

    def check(self, network: nn.Module) -> None:
        """Refuse what the network has nothing for.

        Raises:
            ConfigError: if it has no dropout to sample.
            ValueError: if the number of samples is negative.
        """
        if self.dropout_samples < 0:
            raise ValueError(f"dropout_samples is {self.dropout_samples}; expected 0 or more")
        if self.dropout_samples and not any(module.p > 0 for module in _dropouts(network)):
            raise ConfigError(
                f"dropout_samples: {type(network).__name__} was trained without dropout, so that all samples would be"
                " the same; train it with model.options.dropout, or give several checkpoints"
            )

    def predictions(self, network: nn.Module, images: Tensor) -> list[Prediction]:
        """Return all predictions of images (n, 3, H, W) in [0, 1], of a network in evaluation mode."""
        views = [images, images.flip(-1)] if self.flips else [images]
        found = []
        for view in views:
            if not self.dropout_samples:
                found.append(predict(network, view))
                continue
            with dropout_on(network), torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                found += [predict(network, view) for _ in range(self.dropout_samples)]
        n_straight = len(found) // len(views)
        mirrored = [Prediction(one.classes.flip(-1), one.labels) for one in found[n_straight:]]
        return found[:n_straight] + mirrored


def predict(network: nn.Module, images: Tensor) -> Prediction:
    """Return a supervised network's prediction; one of a user's own may have nothing but lesion logits."""
    own: Callable[[Tensor], Prediction] | None = getattr(network, "predict", None)
    return Prediction(with_background(network(images))) if own is None else own(images)


@contextmanager
def dropout_on(network: nn.Module) -> Iterator[None]:
    """Switch dropout alone to training for as long as the block runs."""
    before = [(module, module.training) for module in _dropouts(network)]
    for module, _ in before:
        module.train()
    try:
        yield
    finally:
        for module, training in before:
            module.train(training)


Dropout = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout | nn.FeatureAlphaDropout


def _dropouts(network: nn.Module) -> list[Dropout]:
    return [module for module in network.modules() if isinstance(module, Dropout)]


@dataclass(frozen=True, slots=True)
class PooledPrediction:
    """Several predictions of the same images as one, whose softmax is the mean of theirs.

    The entropy is that of lesion against background under that mean, in bits: 0 where it is sure, 1 where it cannot
    say; (n, H, W). The disagreement is the part of it that is due to the predictions' differences, in bits: the mutual
    information of prediction and network (BALD, Houlsby et al. 2011); 0 of a single prediction; (n, H, W).
    """

    prediction: Prediction
    entropy: Tensor
    disagreement: Tensor


def pool_predictions(members: Sequence[Prediction]) -> PooledPrediction:
    """Average one or more predictions of the same images, class by class; all have the same classes and labels."""
    lesions = torch.stack([lesion_logits(member.classes).sigmoid() for member in members])
    entropy = binary_entropy(lesions.mean(0))
    alone = len(members) == 1
    parting = torch.zeros_like(entropy) if alone else (entropy - binary_entropy(lesions).mean(0)).clamp_min(0)
    return PooledPrediction(mean_prediction(members), entropy, parting)


def mean_prediction(members: Sequence[Prediction]) -> Prediction:
    """Return the prediction whose softmax is the mean of theirs; of a single one, itself."""
    if len(members) == 1:
        return members[0]
    labels = [member.labels for member in members if member.labels is not None]
    return Prediction(_mean_logits([member.classes for member in members]), _mean_logits(labels) if labels else None)


def binary_entropy(probabilities: Tensor) -> Tensor:
    """Compute the entropy in bits of yes against no.

    >>> binary_entropy(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    nats: Tensor = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
    return (nats / log(2)).clamp(max=1)  # rounding may go beyond


def _mean_logits(logits: Sequence[Tensor]) -> Tensor:
    """Return logits whose softmax over axis 1 is the mean of the given ones'."""
    log_probabilities = torch.stack([one.float().log_softmax(1) for one in logits])
    return log_probabilities.logsumexp(0) - log(len(logits))
