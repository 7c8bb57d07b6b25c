"""From images' results to scores with intervals over patients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from episodes.class_scores import ClassScores, class_scores
from episodes.label_scores import LabelRoc, LabelScores, label_rocs, label_scores
from episodes.probability_histogram import Reliability, RocCurve
from episodes.statistics import Interval, crossed_bootstrap
from fewshot.assessment.inference import ImageResult, Results
from fewshot.results.summary import LESION_SCORES, NORMAL_SCORES


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
            known; empty where no lesion's is.
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
    label_rocs: tuple[LabelRoc, ...] = ()
    uncertainty: dict[str, float] = field(default_factory=dict)


def assess(results: Results) -> Assessment:
    """Score what was predicted of at least one image."""
    images = results.images
    lesions = [image for image in images if image.shows_lesion]
    normals = [image for image in images if not image.shows_lesion]
    counts = np.stack([image.lesion_counts for image in images])
    pixels = counts[:, 0].sum(0)
    by_class = _class_scores(images, results.classes)
    rocs = {name: histogram.roc() for name, histogram in results.class_histograms.items()} if by_class else {}
    named = [image for image in images if image.record.label in results.labels]
    return Assessment(
        n_images=len(images),
        n_patients=len(set(_patients(images))),
        n_lesion=len(lesions),
        n_normal=len(normals),
        lesion={name: _mean(lesions, name) for name in ("dice", *LESION_SCORES)},
        normal={name: _mean(normals, name) for name in NORMAL_SCORES},
        pixels=class_scores(counts, ("lesion",), _patients(images))[0],
        pixel_accuracy=float((pixels[0] + pixels[3]) / pixels.sum()),
        roc=results.lesion_histogram.roc(),
        reliability=results.lesion_histogram.reliability(),
        classes=by_class,
        class_rocs=rocs,
        labels=_label_scores(named, results.labels) if named else None,
        label_rocs=_label_rocs(named, results.labels) if named else (),
        uncertainty=_uncertainty(images, lesions),
    )


def _patients(images: Sequence[ImageResult]) -> list[str]:
    return [image.record.patient_id for image in images]


def _class_scores(images: Sequence[ImageResult], classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """Of the images whose lesions' kind is known; none where these are normal images alone."""
    known = {place: image.class_counts for place, image in enumerate(images) if image.class_counts is not None}
    if not any(images[place].shows_lesion for place in known):
        return ()
    patients = _patients([images[place] for place in known])
    return tuple(class_scores(np.stack(list(known.values())), classes, patients))


def _mean(images: Sequence[ImageResult], score: str) -> Interval:
    if not images:
        return Interval(math.nan, math.nan, math.nan)
    values = np.array([[getattr(image.scores, score) for image in images]])
    return crossed_bootstrap(values, _patients(images))


def _label_scores(images: Sequence[ImageResult], labels: Sequence[str]) -> LabelScores:
    return label_scores(_truths(images, labels), _chances(images, labels).argmax(1), labels, _patients(images))


def _label_rocs(images: Sequence[ImageResult], labels: Sequence[str]) -> tuple[LabelRoc, ...]:
    return tuple(label_rocs(_chances(images, labels), _truths(images, labels), labels, _patients(images)))


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
