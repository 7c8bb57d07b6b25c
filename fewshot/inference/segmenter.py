"""An adapted method that segments images of any size, and says how sure it is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.prediction import lesion_logits, with_background
from episodes.images.regions import count_components
from episodes.records import LABEL_VALUES, LABELS, Label
from episodes.sampling.episode import image_tensor
from fewshot.devices import Batching, within_memory
from fewshot.inference.images import Picture, grey_image, listed, picture_name, resized_image
from fewshot.inference.out_of_distribution import Familiarity
from fewshot.inference.target import lesion_masks
from fewshot.methods.contract import Method, SamplingMethod
from fewshot.methods.uncertainty import mean_prediction

NOTICE = "Research only, not for clinical use."


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


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a lesion is seen, at some size.

    Attributes:
        mask: where it is more probable than not, (H, W).
        probability: of a lesion, in [0, 1], (H, W).
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a model predicts of an image.

    Attributes:
        mask: where it sees a lesion, (H, W) of the image's own size.
        probability: of a lesion, in [0, 1], (H, W).
        label_map: the mask with the more probable class of each pixel, values of `LABEL_VALUES`, (H, W); None of a
            model that does not tell lesions apart.
        labels: probability of what the whole image shows, by name; empty of a model that does not say.
        novelty: how unlike all training and support images it is; above 1, unlike 99 % of the training's own images
            were to those of other patients. None where that is not known.
        working: mask and probability at the working size, as the benchmark scores them.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    label_map: NDArray[np.uint8] | None
    labels: Mapping[str, float]
    novelty: float | None
    working: Seen


def predicted(answers: Answers, place: int, size: tuple[int, int]) -> Predicted:
    """What is said of one image of a batch, at its own size.

    Args:
        answers: about the batch.
        place: the image's in it.
        size: (H, W) of the image.
    """
    with torch.inference_mode():
        logits = answers.lesion[place : place + 1]
        working = _seen(logits)
        own = working if working.mask.shape == size else _seen(stretched(logits, size))
        label_map = None
        if answers.classes is not None:
            label_map = _label_map(stretched(answers.classes[place : place + 1], size), answers.class_names, own.mask)
        return Predicted(
            mask=own.mask,
            probability=own.probability,
            label_map=label_map,
            labels=dict(zip(answers.label_names, answers.labels[place].tolist(), strict=True)),
            novelty=None if answers.novelty is None else float(answers.novelty[place]),
            working=working,
        )


def stretched(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (1, classes, h, w) at another size, (1, classes, H, W)."""
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False, antialias=True)


def _seen(logits: Tensor) -> Seen:
    mask: NDArray[np.bool_] = lesion_masks(logits)[0].cpu().numpy()
    probability: NDArray[np.float32] = (1 - logits.softmax(1)[0, 0]).cpu().numpy()
    return Seen(mask, probability)


def _label_map(logits: Tensor, names: tuple[str, ...], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The more probable class wherever there is a lesion: each by itself may be less probable than background."""
    values = np.array([LABEL_VALUES[cast(Label, name)] for name in names], np.uint8)
    return np.where(mask, values[logits[0, 1:].argmax(0).cpu().numpy()], np.uint8(0))


UNSURE_BELOW = 0.85
"""A mask of a lower `lesion_confidence` is flagged."""

UNLIKE_ABOVE = 1.0
"""An image of a higher novelty is flagged: 1 % of the training's own images would be."""


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What is said of a mask.

    Attributes:
        area: in pixels.
        coverage: share of the image, in [0, 1].
        components: connected parts (8 neighbours).
        mean_confidence: mean over all pixels of how sure the model is of what it says there: the probability of a
            lesion within the mask, 1 minus that outside; in [0.5, 1].
        lesion_confidence: see `lesion_confidence`; in [0.5, 1], NaN of an empty mask.
    """

    area: int
    coverage: float
    components: int
    mean_confidence: float
    lesion_confidence: float


def mask_facts(mask: NDArray[np.bool_], probability: NDArray[np.floating]) -> MaskFacts:
    """Describe a mask (H, W) by itself and by the probabilities (H, W) that it was cut from."""
    area = int(np.count_nonzero(mask))
    return MaskFacts(
        area=area,
        coverage=area / mask.size,
        components=count_components(mask),
        mean_confidence=float(np.where(mask, probability, 1 - probability).mean(dtype=np.float64)),
        lesion_confidence=lesion_confidence(mask, probability),
    )


def lesion_confidence(mask: NDArray[np.bool_], probability: NDArray[np.floating]) -> float:
    """How probable a lesion is on average where the mask (H, W) has one: the precision that the model expects.

    Of what was tried on BUS-UCLM (docs/prediction.md), this ranks masks best by their true Dice under every model; the
    Dice that a model expects, 2 sum(p m) / (sum p + sum m), is misled by small probabilities all over the image.

    >>> round(lesion_confidence(np.array([[True, True, False]]), np.array([[0.9, 0.7, 0.4]])), 3)
    0.8
    """
    return float(probability[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def warnings_of(facts: MaskFacts, novelty: float | None = None) -> dict[str, str]:
    """Flags and, in plain words, why.

    Args:
        facts: of the mask.
        novelty: of the image, see `Predicted`; None where it is not known.

    Returns:
        `empty`, `unsure` and `unlike`, as far as they apply, each with its reason.

    >>> list(warnings_of(MaskFacts(900, 0.1, 1, 0.99, 0.6), novelty=1.2))
    ['unsure', 'unlike']
    """
    flags = {}
    if not facts.area:
        flags["empty"] = "no lesion was found"
    elif facts.lesion_confidence < UNSURE_BELOW:
        flags["unsure"] = f"the model is only {facts.lesion_confidence:.0%} sure of what it marked"
    if novelty is not None and novelty > UNLIKE_ABOVE:
        flags["unlike"] = "the image looks unlike those that the model has seen"
    return flags


@dataclass(frozen=True, slots=True)
class Segmenter:
    """A method after it has adapted.

    Attributes:
        method: the method.
        adapted: what it took from its support set.
        image_size: working size.
        device: where it computes.
        batching: how many images it segments at once; fewer when memory runs out.
        familiarity: tells images that are unlike those of training and support; None where nothing is known.
    """

    method: Method
    adapted: Any
    image_size: int
    device: torch.device
    batching: Batching
    familiarity: Familiarity | None = None

    def masks(self, images: Iterable[Picture]) -> list[NDArray[np.bool_]]:
        """Where each image shows a lesion: boolean (H, W) of the image's own size.

        Args:
            images: as in `Adaptable.adapt`; they are read a few at a time.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        return [found.mask for found in self.predict(images)]

    def probabilities(self, images: Iterable[Picture]) -> list[NDArray[np.float32]]:
        """How probable a lesion is at each pixel: (H, W) in [0, 1], of the image's own size.

        Args:
            images: as in `masks`, which are set where the probability is above 0.5.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        return [found.probability for found in self.predict(images)]

    def predict(self, images: Iterable[Picture]) -> Iterator[Predicted]:
        """All that is said of each image, one after the other.

        Args:
            images: as in `masks`.

        Raises:
            UserError: if one of them cannot be read, or memory does not suffice for a single one.
        """
        waiting = enumerate(listed(images, "images"))
        while read := list(islice(waiting, self.batching.size)):
            yield from self.predict_grey([grey_image(image, picture_name("images", at, image)) for at, image in read])

    def predict_grey(self, images: Sequence[NDArray[np.uint8]]) -> Iterator[Predicted]:
        """As `predict`, of grey values (H, W) of any sizes.

        Raises:
            UserError: if memory does not suffice for a single one.
        """
        for batch, answers in self.batching.over(images, self._ask):
            for place, image in enumerate(batch):
                height, width = image.shape
                stretch = partial(predicted, answers, place, (height, width))
                yield within_memory(stretch, f"{self.device}, an image of {width} x {height} pixels")

    def _ask(self, images: Sequence[NDArray[np.uint8]]) -> Answers:
        pixels = image_tensor(np.stack([resized_image(image, self.image_size) for image in images]))
        return ask(self.method, self.adapted, pixels.to(self.device), self.familiarity)
