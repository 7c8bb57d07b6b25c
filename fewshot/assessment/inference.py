"""Predicting a dataset image by image: what scores are made of, without keeping any map in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.prediction import UNKNOWN, lesion_logits
from episodes.class_scores import count_pixels
from episodes.episode import image_tensor
from episodes.metrics import Scores, score
from episodes.parallel import Progress
from episodes.probability_histogram import ProbabilityHistogram
from episodes.records import LABEL_VALUES, Record
from episodes.store import Store
from fewshot.assessment.members import KINDS, Member
from fewshot.memory.batching import Batching
from fewshot.methods.uncertainty import pool

Bytes = NDArray[np.uint8]
CLASS_VALUES: Mapping[str, int] = {kind: LABEL_VALUES[kind] for kind in KINDS}  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """What is predicted of one image.

    Attributes:
        classes: probabilities of background and of each class, (1 + n_classes, H, W).
        lesion: probability of any lesion, (H, W).
        labels: probabilities of the image's labels, (n_labels,); empty of a network that gives none.
        entropy: of lesion against background, in bits, (H, W).
        disagreement: its part that several predictions' parting makes, (H, W).
        n_predictions: how many predictions these are the mean of.
    """

    classes: NDArray[np.float32]
    lesion: NDArray[np.float32]
    labels: NDArray[np.float32]
    entropy: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    n_predictions: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where a lesion is more probable than none, (H, W)."""
        return self.lesion > 0.5

    @property
    def class_map(self) -> Bytes:
        """The more probable class, 1 and up, wherever the mask has a lesion; background, 0, elsewhere; (H, W).

        Not the most probable of background and classes: where a network is sure of a lesion and not of its kind, each
        kind by itself is less probable than background, and every such lesion would be lost.
        """
        kinds: Bytes = (1 + self.classes[1:].argmax(0)).astype(np.uint8)
        return np.where(self.mask, kinds, np.uint8(0))


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's scores.

    Attributes:
        record: the image.
        shows_lesion: whether its label map has one.
        scores: of the lesion mask.
        lesion_counts: pixels of lesion, (1, 4), as `count_pixels` counts.
        class_counts: of the classes, (n_classes, 4); None where a lesion's kind is unknown, or there is one class.
        label_probabilities: by label, of a network that gives any.
        entropy: mean over the image, in bits.
        disagreement: likewise.
    """

    record: Record
    shows_lesion: bool
    scores: Scores
    lesion_counts: NDArray[np.int64]
    class_counts: NDArray[np.int64] | None
    label_probabilities: Mapping[str, float]
    entropy: float
    disagreement: float


@dataclass(frozen=True, slots=True)
class Results:
    """A dataset's results.

    Attributes:
        classes: that the masks tell apart, background aside.
        labels: that the images were given.
        images: in the order in which they were added.
        lesion_histogram: of every pixel's lesion probability.
        class_histograms: by class, where there are several, of images whose lesions' kind is known.
    """

    classes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    images: list[ImageResult] = field(default_factory=list)
    lesion_histogram: ProbabilityHistogram = field(default_factory=ProbabilityHistogram)
    class_histograms: dict[str, ProbabilityHistogram] = field(default_factory=dict)

    def add(self, record: Record, prediction: ImagePrediction, truth: Bytes) -> None:
        """Score what is predicted of an image against its label map (H, W)."""
        lesion = truth > 0
        self.lesion_histogram.add(prediction.lesion, lesion)
        kinds_known = len(self.classes) > 1 and not (truth == UNKNOWN).any()
        if kinds_known:
            for channel, name in enumerate(self.classes, start=1):
                histogram = self.class_histograms.setdefault(name, ProbabilityHistogram())
                histogram.add(prediction.classes[channel], truth == CLASS_VALUES[name])
        result = ImageResult(
            record,
            shows_lesion=bool(lesion.any()),
            scores=score(prediction.mask, lesion),
            lesion_counts=count_pixels(prediction.mask.astype(np.uint8), lesion.astype(np.uint8), 1),
            class_counts=self._class_counts(prediction, truth) if kinds_known else None,
            label_probabilities=dict(zip(self.labels, prediction.labels.tolist(), strict=True)),
            entropy=float(prediction.entropy.mean()),
            disagreement=float(prediction.disagreement.mean()),
        )
        self.images.append(result)

    def _class_counts(self, prediction: ImagePrediction, truth: Bytes) -> NDArray[np.int64]:
        channels = np.zeros(len(LABEL_VALUES), np.uint8)  # by value of a label map
        for channel, name in enumerate(self.classes, start=1):
            channels[CLASS_VALUES[name]] = channel
        return count_pixels(prediction.class_map, channels[truth], len(self.classes))


OnImage = Callable[[Record, ImagePrediction], None]


def predict_records(
    members: Sequence[Member],
    store: Store,
    records: Sequence[Record],
    device: torch.device,
    *,
    on_image: OnImage | None = None,
    progress: Progress | None = None,
) -> Results:
    """Predict every record by the members' mean, and score it.

    Args:
        members: one, or several as an ensemble; they have adapted.
        store: holds the records' pixels.
        records: which.
        device: where to compute.
        on_image: given what is predicted of each image.
        progress: given the number done and in all.

    Raises:
        NotEnoughMemoryError: if memory does not suffice for a single image; of several, the batch is halved.
    """
    results = Results(members[0].classes, members[0].labels)
    rows = {record.id: row for row, record in enumerate(store.records)}

    def predict(batch: Sequence[Record]) -> list[ImagePrediction]:
        pixels = store.images[[rows[record.id] for record in batch]]
        return predict_images(members, image_tensor(pixels).to(device))

    for batch, predictions in Batching(device).over(records, predict):
        for record, prediction in zip(batch, predictions, strict=True):
            results.add(record, prediction, np.asarray(store.label_maps[rows[record.id]]))
            if on_image is not None:
                on_image(record, prediction)
        if progress is not None:
            progress(len(results.images), len(records))
    return results


def predict_images(members: Sequence[Member], images: Tensor) -> list[ImagePrediction]:
    """What the members together predict of images (n, 3, H, W) in [0, 1]."""
    with torch.inference_mode():
        found = [prediction for member in members for prediction in member.predictions(images)]
        pooled = pool(found)
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
        ImagePrediction(**{name: array[place] for name, array in arrays.items()}, n_predictions=len(found))
        for place in range(len(images))
    ]
