"""What a method answers about a batch of images at the working size, whatever kind of method it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from baselines.prediction import lesion_logits, with_background
from episodes.records import LABELS
from fewshot.methods.contract import Method, SamplingMethod
from fewshot.methods.uncertainty import mean_prediction
from fewshot.prediction.familiarity import Familiarity

KINDS = frozenset({"benign", "malignant"})
"""What lesions can be told apart by."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What is said of n images.

    Attributes:
        lesion: logits of background and lesion, (n, 2, H, W).
        classes: logits of background and of each of `class_names`, (n, 1 + n_classes, H, W); None of a method that
            does not tell lesions apart.
        class_names: of the lesion classes, in that order.
        labels: probabilities of what the whole image shows, (n, n_labels).
        label_names: of these, such as `benign`; empty of a method that does not say.
        novelty: how far each image is from all known ones, (n,), see `Familiarity`; None where nothing is known.
    """

    lesion: Tensor
    classes: Tensor | None
    class_names: tuple[str, ...]
    labels: Tensor
    label_names: tuple[str, ...]
    novelty: Tensor | None = None


def ask(method: Method, adapted: Any, images: Tensor, familiarity: Familiarity | None = None) -> Answers:
    """Ask a method about images.

    Args:
        method: which.
        adapted: what it took from its support set.
        images: (n, 3, H, W) in [0, 1], on the method's device.
        familiarity: knows how unlike other images each is.
    """
    with torch.inference_mode():
        if familiarity is None:
            return _answers(method, adapted, images)
        # A method that has not tuned its encoder computes the same features: once is enough.
        with _overheard(familiarity.encoder) as heard:
            answers = _answers(method, adapted, images)
        levels = heard[0] if heard and len(heard[0][-1]) == len(images) else familiarity.encoder(images)
        return replace(answers, novelty=familiarity.novelty(levels))


def _answers(method: Method, adapted: Any, images: Tensor) -> Answers:
    nothing = images.new_zeros(len(images), 0)
    if not isinstance(method, SamplingMethod):
        return Answers(method.segment(images, adapted).float(), None, (), nothing, ())
    prediction = mean_prediction(method.sample(images, adapted))
    classes, labels = prediction.classes.float(), prediction.labels
    class_names, label_names = names_told(method)
    return Answers(
        lesion=with_background(lesion_logits(classes)),
        classes=classes if class_names else None,
        class_names=class_names,
        labels=nothing if labels is None or not label_names else labels.float().softmax(1),
        label_names=() if labels is None else label_names,
    )


def names_told(method: Method) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that a method tells lesions apart by, and the labels that it gives whole images; empty for none.

    Names that datasets do not know, as a network of a user's own may have, count as none.
    """
    network = getattr(method, "network", None) if isinstance(method, SamplingMethod) else None
    classes, labels = (tuple(getattr(network, what, ())) for what in ("classes", "labels"))
    return (
        classes if len(classes) > 1 and KINDS.issuperset(classes) else (),
        labels if len(labels) > 1 and set(labels) <= set(LABELS) else (),
    )


@contextmanager
def _overheard(encoder: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Keep what an encoder gives each time that it is called within the block."""
    heard: list[list[Tensor]] = []
    handle = encoder.register_forward_hook(lambda _module, _inputs, levels: heard.append(levels))
    try:
        yield heard
    finally:
        handle.remove()
