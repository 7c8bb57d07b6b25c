"""From images' results to scores with intervals over patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from episodes.class_scores import ClassRoc, ClassScores, LabelScores, class_scores, label_scores, roc
from episodes.probability_histogram import Reliability, RocCurve
from episodes.statistics import Interval, crossed_bootstrap
from fewshot.assessment.inference import ImageResult, Predicted
from fewshot.summary import LESION_SCORES, NORMAL_SCORES


@dataclass(frozen=True, slots=True)
class Assessment:
    """All scores of one or several checkpoints on one dataset; intervals are over patients, 95 %.

    Attributes:
        n_images: judged.
        n_patients: they are of.
        n_lesion: images that show a lesion.
        n_normal: images that do not.
        lesion: Dice, IoU, precision, recall, HD95, NSD and share detected, means over the lesion images.
        normal: false-positive rate and area, means over the normal images.
        pixels: lesion pixels pooled over all images, with the mean Dice of published code beside ours.
        pixel_accuracy: share of right pixels; mostly that of background.
        roc: of lesion pixels.
        reliability: of their probabilities.
        classes: benign and malignant pixels, of a network that tells them apart, over images whose lesions' kind is
            known.
        class_rocs: likewise, by class.
        labels: whole images, of a network that names them, over images that have one of its labels.
        label_rocs: likewise, by label.
        uncertainty: mean entropy and disagreement in bits, and how they rank with failure: Spearman's correlation with
            1 - Dice over the lesion images.
    """

    n_images: int
    n_patients: int
    n_lesion: int
    n_normal: int
    lesion: dict[str, Interval]
    normal: dict[str, Interval]
    pixels: ClassScores
    pixel_accuracy: float
    roc: RocCurve
    reliability: Reliability
    classes: tuple[ClassScores, ...] = ()
    class_rocs: dict[str, RocCurve] = field(default_factory=dict)
    labels: LabelScores | None = None
    label_rocs: tuple[ClassRoc, ...] = ()
    uncertainty: dict[str, float] = field(default_factory=dict)


def assess(predicted: Predicted, classes: Sequence[str], labels: Sequence[str]) -> Assessment:
    """Score what was predicted.

    Args:
        predicted: of at least one image.
        classes: that the masks tell apart.
        labels: that the images were given; empty for none.
    """
    images = predicted.images
    lesions = [image for image in images if image.shows_lesion]
    normals = [image for image in images if not image.shows_lesion]
    pixels = class_scores(np.stack([image.lesion_counts for image in images]), ("lesion",), _patients(images))[0]
    counts = sum(image.lesion_counts[0] for image in images)
    known = [image for image in images if image.class_counts is not None]
    named = [image for image in images if image.record.label in labels]
    by_class: tuple[ClassScores, ...] = ()
    if known:
        stacked = np.stack([image.class_counts for image in known if image.class_counts is not None])
        by_class = tuple(class_scores(stacked, classes, _patients(known)))
    return Assessment(
        n_images=len(images),
        n_patients=len(set(_patients(images))),
        n_lesion=len(lesions),
        n_normal=len(normals),
        lesion={name: _mean(lesions, name) for name in ("dice", *LESION_SCORES)},
        normal={name: _mean(normals, name) for name in NORMAL_SCORES},
        pixels=pixels,
        pixel_accuracy=float((counts[0] + counts[3]) / counts.sum()),
        roc=predicted.lesion_histogram.roc(),
        reliability=predicted.lesion_histogram.reliability(),
        classes=by_class,
        class_rocs={name: histogram.roc() for name, histogram in predicted.class_histograms.items()},
        labels=_label_scores(named, labels) if named else None,
        label_rocs=_label_rocs(named, labels) if named else (),
        uncertainty=_uncertainty(images, lesions),
    )


def _patients(images: Sequence[ImageResult]) -> list[str]:
    return [image.record.patient_id for image in images]


def _mean(images: Sequence[ImageResult], score: str) -> Interval:
    if not images:
        return Interval(math.nan, math.nan, math.nan)
    values = np.array([[getattr(image.scores, score) for image in images]])
    return crossed_bootstrap(values, _patients(images))


def _label_scores(images: Sequence[ImageResult], labels: Sequence[str]) -> LabelScores:
    return label_scores(_truths(images, labels), _chances(images, labels).argmax(1), labels, _patients(images))


def _label_rocs(images: Sequence[ImageResult], labels: Sequence[str]) -> tuple[ClassRoc, ...]:
    return tuple(roc(_chances(images, labels), _truths(images, labels), labels, _patients(images)))


def _truths(images: Sequence[ImageResult], labels: Sequence[str]) -> NDArray[np.int64]:
    return np.array([labels.index(image.record.label) for image in images])


def _chances(images: Sequence[ImageResult], labels: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[image.label_probabilities[label] for label in labels] for image in images])


def _uncertainty(images: Sequence[ImageResult], lesions: Sequence[ImageResult]) -> dict[str, float]:
    failure = [1 - image.scores.dice for image in lesions]
    found: dict[str, float] = {}
    for name in ("entropy", "disagreement"):
        values = [getattr(image, name) for image in lesions]
        found[f"mean_{name}"] = float(np.mean([getattr(image, name) for image in images]))
        ranked = len(set(values)) > 1 and len(set(failure)) > 1
        found[f"{name}_to_failure"] = float(spearmanr(values, failure).statistic) if ranked else math.nan
    return found
