"""Predicting a dataset image by image: what later scores are made of, without keeping any map in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.prediction import UNKNOWN, lesion_logits
from episodes.class_scores import count_pixels
from episodes.episode import image_tensor
from episodes.metrics import Scores, score
from episodes.probability_histogram import ProbabilityHistogram
from episodes.records import LABEL_VALUES, Record
from episodes.store import Progress, Store
from fewshot.assessment.subject import Member
from fewshot.evaluation import batched, default_batch_size
from fewshot.uncertainty import pool

CLASS_VALUES: Mapping[str, int] = {"benign": LABEL_VALUES["benign"], "malignant": LABEL_VALUES["malignant"]}


@dataclass(frozen=True, slots=True)
class Maps:
    """What is predicted of one image, pixel by pixel.

    Attributes:
        mask: of lesions, (H, W) bool.
        classes: 0 background, i the i-th class, (H, W) uint8.
        probability: of a lesion, (H, W) in [0, 1].
        entropy: of that, in bits, (H, W).
        disagreement: its part that several predictions' parting makes, (H, W).
    """

    mask: NDArray[np.bool_]
    classes: NDArray[np.uint8]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    disagreement: NDArray[np.float32]


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
class Predicted:
    """A dataset's results.

    Attributes:
        images: in the order asked for.
        lesion_histogram: of every pixel's lesion probability.
        class_histograms: by class, of a network that tells several apart.
    """

    images: list[ImageResult] = field(default_factory=list)
    lesion_histogram: ProbabilityHistogram = field(default_factory=ProbabilityHistogram)
    class_histograms: dict[str, ProbabilityHistogram] = field(default_factory=dict)


OnImage = Callable[[Record, Maps], None]


def predict_records(
    members: Sequence[Member],
    store: Store,
    records: Sequence[Record],
    device: torch.device,
    *,
    on_image: OnImage | None = None,
    progress: Progress | None = None,
) -> Predicted:
    """Predict every record by the members' mean, and score it.

    Args:
        members: one, or several as an ensemble.
        store: holds the records' pixels.
        records: which.
        device: where to compute.
        on_image: given each image's maps.
        progress: given the number done and in all.
    """
    classes, labels = members[0].classes, members[0].labels
    result = Predicted()
    if len(classes) > 1:
        result.class_histograms.update({name: ProbabilityHistogram() for name in classes})
    rows = {record.id: row for row, record in enumerate(store.records)}
    for places in batched(range(len(records)), default_batch_size(device)):
        chosen = [rows[records[place].id] for place in places]
        with torch.inference_mode():
            images = image_tensor(store.images[chosen]).to(device)
            pooled = pool([one for member in members for one in member.predictions(images)])
            probabilities = pooled.prediction.classes.float().softmax(1).cpu().numpy()
            lesion = lesion_logits(pooled.prediction.classes.float()).sigmoid().cpu().numpy()
            named = pooled.prediction.labels
            chances = None if named is None else named.float().softmax(1).cpu().numpy()
        for at, place in enumerate(places):
            maps = Maps(
                lesion[at] > 0.5,
                probabilities[at].argmax(0).astype(np.uint8),
                lesion[at],
                pooled.entropy[at].cpu().numpy(),
                pooled.disagreement[at].cpu().numpy(),
            )
            truth = np.asarray(store.label_maps[chosen[at]])
            result.lesion_histogram.add(lesion[at], truth > 0)
            known = not (truth == UNKNOWN).any()
            for channel, name in enumerate(result.class_histograms, start=1):
                if known:
                    result.class_histograms[name].add(probabilities[at, channel], truth == CLASS_VALUES[name])
            given = {} if chances is None else dict(zip(labels, map(float, chances[at]), strict=True))
            result.images.append(_result(records[place], maps, truth, classes, given))
            if on_image is not None:
                on_image(records[place], maps)
        if progress is not None:
            progress(places[-1] + 1, len(records))
    return result


def _result(
    record: Record, maps: Maps, truth: NDArray[np.uint8], classes: Sequence[str], labels: Mapping[str, float]
) -> ImageResult:
    counts = None
    if len(classes) > 1 and not (truth == UNKNOWN).any():
        places = np.zeros(len(LABEL_VALUES), np.uint8)
        for place, name in enumerate(classes, start=1):
            places[CLASS_VALUES[name]] = place
        counts = count_pixels(maps.classes, places[truth], len(classes))
    return ImageResult(
        record,
        bool(truth.any()),
        score(maps.mask, truth > 0),
        count_pixels(maps.mask.astype(np.uint8), (truth > 0).astype(np.uint8), 1),
        counts,
        labels,
        float(maps.entropy.mean()),
        float(maps.disagreement.mean()),
    )
