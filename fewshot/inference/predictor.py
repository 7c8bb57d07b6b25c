"""Inference: adapted methods that predict images, in batches that memory has room for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.prediction import Prediction, lesion_logits, with_background
from episodes.errors import UserError
from episodes.images.decoding import stretch_image
from episodes.records import LABEL_VALUES, LABELS, Label, Record
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Store
from fewshot.devices import Batching, within_memory
from fewshot.features import Features, all_finite
from fewshot.inference.out_of_distribution import NoveltyDetector
from fewshot.methods.contract import Method, SamplingMethod
from fewshot.methods.uncertainty import mean_prediction, pool_predictions

NOTICE = "Research only, not for clinical use."

# What lesions can be told apart by.
KINDS = ("benign", "malignant")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MaskPrediction:
    """A lesion mask and its probabilities.

    Attributes:
        mask: where a lesion is more probable than not, (H, W).
        probability: of a lesion, in [0, 1], (H, W).
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The prediction of one image, at its own size.

    Attributes:
        mask: where a lesion is more probable than not, (H, W).
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
    working: MaskPrediction


@dataclass(frozen=True, slots=True)
class EnsemblePrediction:
    """The mean prediction of one image at the working size, and how far the predictions that it is made of differ."""

    classes: NDArray[np.float32]  # probabilities of background and of each class, (1 + n_classes, H, W)
    lesion: NDArray[np.float32]  # probability of any lesion, (H, W)
    labels: NDArray[np.float32]  # probabilities of the image's labels, (n_labels,); empty of a network that gives none
    entropy: NDArray[np.float32]  # of lesion against background, in bits, (H, W)
    disagreement: NDArray[np.float32]  # the part of the entropy that comes from differing predictions, (H, W)
    n_predictions: int  # how many predictions these are the mean of

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return where a lesion is more probable than none, (H, W)."""
        return self.lesion > 0.5

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """Return the more probable class, 1 and up, wherever the mask has a lesion; background, 0, elsewhere; (H, W).

        Not the most probable of background and classes: where a network is sure of a lesion and not of its kind, each
        kind by itself is less probable than background, and every such lesion would be lost.
        """
        kinds: NDArray[np.uint8] = (1 + self.classes[1:].argmax(0)).astype(np.uint8)
        return np.where(self.mask, kinds, np.uint8(0))


@dataclass(frozen=True, slots=True)
class BatchPrediction:
    """The prediction of n images at the working size, on the device."""

    lesion: Tensor  # logits of background and lesion, (n, 2, H, W)
    # Logits of background and of each of `class_names`, (n, 1 + n_classes, H, W); None of a method that does not tell
    # lesions apart.
    classes: Tensor | None
    class_names: tuple[str, ...]  # of the lesion classes, in that order
    labels: Tensor  # probabilities of what the whole image shows, (n, n_labels)
    label_names: tuple[str, ...]  # of these, such as `benign`; empty of a method that does not say
    # How far each image is from all known ones, (n,), see `NoveltyDetector`; None without a detector.
    novelty: Tensor | None = None

    def at_size(self, place: int, size: tuple[int, int]) -> ImagePrediction:
        """Return the prediction of one image of the batch at its own size, (H, W)."""
        with torch.inference_mode():
            logits = lesion_logits(self.lesion[place : place + 1])[:, None]  # as one channel
            working = _mask_prediction(logits)
            own = working if working.mask.shape == size else _mask_prediction(_stretched(logits, size))
            label_map = None
            if self.classes is not None:
                values = np.array([LABEL_VALUES[cast(Label, name)] for name in self.class_names], np.uint8)
                kinds = _stretched(self.classes[place : place + 1], size)[0, 1:].argmax(0).cpu().numpy()
                # The more probable class: each by itself may be less probable than background.
                label_map = np.where(own.mask, values[kinds], np.uint8(0))
            return ImagePrediction(
                mask=own.mask,
                probability=own.probability,
                label_map=label_map,
                labels=dict(zip(self.label_names, self.labels[place].tolist(), strict=True)),
                novelty=None if self.novelty is None else float(self.novelty[place]),
                working=working,
            )


def lesion_masks(logits: Tensor) -> Tensor:
    """Compute where any class has a larger logit than background: boolean (n, H, W) of (n, 1 + n_way, H, W).

    The same as `argmax(1) > 0`, which takes a hundred times as long; of a single way, `amax` takes five times as long.

    >>> lesion_masks(torch.tensor([[[[0.0, 1.0, 1.0]], [[2.0, 1.0, 0.0]]]])).tolist()
    [[[True, False, False]]]
    """
    best = logits[:, 1] if logits.shape[1] == 2 else logits[:, 1:].amax(1)
    return best > logits[:, 0]


def _mask_prediction(logits: Tensor) -> MaskPrediction:
    """Return the prediction of one image, (1, 1, H, W)."""
    return MaskPrediction((logits[0, 0] > 0).cpu().numpy(), logits[0, 0].sigmoid().cpu().numpy())


def _stretched(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (n, channels, h, w) bilinearly; antialiased where they shrink, as it changes nothing elsewhere."""
    shrinks = size[0] < logits.shape[2] or size[1] < logits.shape[3]
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


@dataclass(frozen=True, slots=True)
class AdaptedMethod:
    """A method and what it took from its support set."""

    method: Method
    adapted: Any

    def predictions(self, inputs: Tensor | Features) -> list[Prediction]:
        """Predict images (n, 3, H, W) in [0, 1], or the images of the features, once or several times."""
        if isinstance(inputs, Tensor) and isinstance(self.method, SamplingMethod):
            return self.method.sample(inputs, self.adapted)
        return [Prediction(self.method.segment(inputs, self.adapted))]  # type: ignore[arg-type]


class Predictor:
    """Adapted methods that predict together; one alone, or several as an ensemble.

    Args:
        members: the methods; all tell the same classes and labels apart.
        image_size: working size.
        batching: how many images are predicted at once; fewer when memory runs out.
        novelty_detector: tells images that are unlike those of training and support; None where nothing is known.

    Attributes:
        seconds: what predicting took so far.
    """

    def __init__(
        self,
        members: Sequence[AdaptedMethod],
        image_size: int,
        batching: Batching,
        novelty_detector: NoveltyDetector | None = None,
    ) -> None:
        self.members = tuple(members)
        self.image_size = image_size
        self.batching = batching
        self.novelty_detector = novelty_detector
        self.seconds = 0.0

    @property
    def device(self) -> torch.device:
        """Return where the images are predicted."""
        return self.batching.device

    def predictions(self, inputs: Tensor | Features) -> list[Prediction]:
        """Return all members' predictions of images (n, 3, H, W) in [0, 1], or of the images' features.

        Raises:
            UserError: if one is not finite: it would look as if no lesion was found.
        """
        found = [prediction for member in self.members for prediction in member.predictions(inputs)]
        if torch.compiler.is_compiling():  # an export, which is compared with this later
            return found
        for one in found:
            if not (all_finite(one.classes) and (one.labels is None or all_finite(one.labels))):
                name = type(self.members[0].method).__name__
                raise UserError(
                    f"{name}: what it computes of the images is not finite, so nothing is known of their lesions; train"
                    " it again, or adapt it, with a lower learning_rate"
                )
        return found

    def masks(self, inputs: Tensor | Features) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Return lesion masks and probabilities at the working size, (n, H, W) each."""
        logits = self._lesion(self._mean(inputs))
        return lesion_masks(logits).cpu().numpy(), lesion_logits(logits).sigmoid().cpu().numpy()

    def ensemble(self, images: Tensor) -> list[EnsemblePrediction]:
        """Return the mean prediction of each of the images (n, 3, H, W), and its uncertainty."""
        found = self.predictions(images)
        pooled = pool_predictions(found)
        logits, labels = pooled.prediction.classes.float(), pooled.prediction.labels
        parts = {
            "classes": logits.softmax(1),
            "lesion": lesion_logits(logits).sigmoid(),
            "labels": logits.new_zeros(len(images), 0) if labels is None else labels.float().softmax(1),
            "entropy": pooled.entropy,
            "disagreement": pooled.disagreement,
        }
        arrays = {name: part.float().cpu().numpy() for name, part in parts.items()}
        return [
            EnsemblePrediction(**{name: array[place] for name, array in arrays.items()}, n_predictions=len(found))
            for place in range(len(images))
        ]

    def batch(self, images: Tensor, features: Features | None = None) -> BatchPrediction:
        """Return everything that is predicted of a batch at the working size.

        Args:
            images: (n, 3, H, W) in [0, 1], on the device.
            features: theirs, of a method that encodes, where they are at hand.
        """
        detector = self.novelty_detector
        if detector is None:
            return self._batch(images if features is None else features)
        # A method that has not tuned its encoder computes the detector's features: once is enough.
        with _recorded(detector.encoder) as recorded:
            found = self._batch(images if features is None else features)
        if features is not None and detector.shares_encoder(self.members[0].method):
            levels: Sequence[Tensor] = features.levels
        elif recorded and len(recorded[0][-1]) == len(images):
            levels = recorded[0]
        else:
            levels = detector.encoder(images)
        return replace(found, novelty=detector.novelty(levels))

    def _batch(self, inputs: Tensor | Features) -> BatchPrediction:
        mean = self._mean(inputs)
        class_names, label_names = known_names(self.members[0].method)
        labels = None if mean.labels is None or not label_names else mean.labels.float().softmax(1)
        return BatchPrediction(
            lesion=self._lesion(mean),
            classes=mean.classes.float() if class_names else None,
            class_names=class_names,
            labels=mean.classes.new_zeros(len(mean.classes), 0) if labels is None else labels,
            label_names=() if labels is None else label_names,
        )

    def _mean(self, inputs: Tensor | Features) -> Prediction:
        return mean_prediction(self.predictions(inputs))

    def _lesion(self, mean: Prediction) -> Tensor:
        classes = mean.classes.float()
        several = isinstance(self.members[0].method, SamplingMethod)
        return with_background(lesion_logits(classes)) if several else classes

    def over(
        self, items: Sequence[Item], predict: Callable[[list[Item]], Result]
    ) -> Iterator[tuple[list[Item], Result]]:
        """Predict items of any kind, a batch at a time.

        `predict` reads a batch, such as rows of a store or grey images, and calls `masks`, `ensemble` or `batch`; it
        runs in inference mode.

        Yields:
            Every batch with what was predicted of it, in order.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single item; of several, the batch is halved.
        """

        def timed(batch: list[Item]) -> Result:
            began = perf_counter()
            with torch.inference_mode():
                found = predict(batch)
            self.seconds += perf_counter() - began
            return found

        return self.batching.over(items, timed)

    def predict_images(
        self, images: Sequence[NDArray[np.uint8]], encode: Callable[[Tensor], Features] | None = None
    ) -> Iterator[ImagePrediction]:
        """Predict grey images (H, W) of any sizes.

        Args:
            images: 0 to 255.
            encode: gives the features of tensors (n, 3, H, W), of a method that encodes; None to give it the tensors.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single one.
        """
        size = (self.image_size, self.image_size)

        def predict(batch: list[NDArray[np.uint8]]) -> BatchPrediction:
            pixels = image_tensor(np.stack([stretch_image(image, size) for image in batch])).to(self.device)
            return self.batch(pixels, None if encode is None else encode(pixels))

        for batch, found in self.over(images, predict):
            for place, image in enumerate(batch):
                height, width = image.shape
                stretch = partial(found.at_size, place, (height, width))
                yield within_memory(stretch, f"{self.device}, an image of {width} x {height} pixels")

    def predict_records(
        self, store: Store, records: Sequence[Record]
    ) -> Iterator[tuple[list[Record], list[EnsemblePrediction]]]:
        """Predict records of a store, and say how uncertain the prediction is, a batch at a time.

        Raises:
            NotEnoughMemoryError: if memory does not suffice for a single image.
        """
        rows = {record.id: row for row, record in enumerate(store.records)}

        def predict(batch: list[Record]) -> list[EnsemblePrediction]:
            return self.ensemble(image_tensor(store.images[[rows[record.id] for record in batch]]).to(self.device))

        return self.over(records, predict)


def known_names(method: Method) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes that a method tells lesions apart by, and the labels that it gives images; empty for none.

    Names that datasets do not know, as a network of a user's own may have, count as none.
    """
    network = getattr(method, "network", None) if isinstance(method, SamplingMethod) else None
    classes, labels = (tuple(getattr(network, what, ())) for what in ("classes", "labels"))
    return (
        classes if len(classes) > 1 and set(classes) <= set(KINDS) else (),
        labels if len(labels) > 1 and set(labels) <= set(LABELS) else (),
    )


@contextmanager
def _recorded(encoder: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Record what an encoder gives each time that it is called within the block."""
    recorded: list[list[Tensor]] = []
    handle = encoder.register_forward_hook(lambda _module, _inputs, levels: recorded.append(levels))
    try:
        yield recorded
    finally:
        handle.remove()
