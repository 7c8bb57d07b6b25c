"""Scores of labelling whole images, as normal, benign or malignant."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from episodes.scoring.bootstrap import FloatArray, IntArray, Interval
from episodes.scoring.class_scores import Ratios, confusion_matrix, pooled_rates
from episodes.scoring.curves import area_under_roc
from episodes.scoring.statistics import patient_weights, weighted_interval


@dataclass(frozen=True, slots=True)
class ClassLabelScores:
    """How well the images of one class are told from all others; every score with its interval over patients.

    Attributes:
        name: of the class.
        n_images: how many images are of the class; without any, all scores but specificity are NaN.
        precision: share of the images called the class that are of it.
        recall: share of its images that are called so (sensitivity).
        specificity: share of all other images that are not called so.
        f1: harmonic mean of precision and recall.
    """

    name: str
    n_images: int
    precision: Interval
    recall: Interval
    specificity: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well images are labelled; every score with its interval over patients.

    Attributes:
        confusion: number of images by truth (rows) and prediction (columns).
        accuracy: share of the images with the right label.
        macro_precision: mean over the classes that have images, each counting once.
        macro_recall: likewise; also called balanced accuracy.
        macro_f1: likewise, the mean of the classes' F1.
        classes: one entry per class.
    """

    confusion: tuple[tuple[int, ...], ...]
    accuracy: Interval
    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    classes: tuple[ClassLabelScores, ...]


@dataclass(frozen=True, slots=True)
class LabelRoc:
    """The receiver operating characteristic of one class against the rest, over images.

    Attributes:
        name: of the class.
        n_images: how many images are of the class.
        false_positive_rates: of falling thresholds, from 0 to 1; empty where all images or none are of the class.
        true_positive_rates: at the same thresholds.
        auc: area under the curve with its interval over patients.
    """

    name: str
    n_images: int
    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    auc: Interval


def label_scores(
    truths: NDArray[np.integer],
    predictions: NDArray[np.integer],
    names: Sequence[str],
    patients: Sequence[str],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> LabelScores:
    """Score how well images are labelled.

    Args:
        truths: each image's class as an index into `names`, (n_images,).
        predictions: the predicted classes, (n_images,).
        names: of the classes.
        patients: whose image each is, (n_images,).
        n_resamples: how many times whole patients are resampled.
        level: share of the resampled scores inside an interval.
        seed: of the resampling.

    Raises:
        ValueError: if the shapes differ, an index is out of range, or a level or number of resamples is impossible.

    >>> truths, predictions = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    >>> scores = label_scores(truths, predictions, ["normal", "benign", "malignant"], list("abcd"))
    >>> scores.accuracy.estimate, scores.macro_precision.estimate, scores.classes[1].recall.estimate
    (0.75, 0.8333333333333334, 0.5)
    """
    confusion = confusion_matrix(truths, predictions, len(names))
    _require_images(truths, patients)
    weights = patient_weights(patients, n_resamples=n_resamples, seed=seed)
    ours, theirs = (values[:, None] == np.arange(len(names)) for values in (predictions, truths))
    # An image is a picture of one pixel here: its label.
    rates = pooled_rates(np.stack([ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs], axis=-1))
    rates["recall"] = rates.pop("sensitivity")
    every = np.ones((len(truths), 1))
    right = (truths == predictions).astype(np.float64)[:, None]
    return LabelScores(
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        accuracy=Ratios(right, every, every).interval(weights, level),
        macro_precision=rates["precision"].interval(weights, level),
        macro_recall=rates["recall"].interval(weights, level),
        macro_f1=rates["f1"].interval(weights, level),
        classes=tuple(
            ClassLabelScores(
                name=name,
                n_images=int(theirs[:, index].sum()),
                **{key: ratios.of(index).interval(weights, level) for key, ratios in rates.items()},
            )
            for index, name in enumerate(names)
        ),
    )


def label_rocs(
    scores: NDArray[np.floating],
    truths: NDArray[np.integer],
    names: Sequence[str],
    patients: Sequence[str],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[LabelRoc]:
    """The ROC of each class against the rest over images, and the area under it.

    Args:
        scores: large where a class is likely, such as probabilities, (n_images, n_classes).
        truths: each image's class as an index into `names`, (n_images,).
        names: of the classes.
        patients: whose image each is, (n_images,).
        n_resamples: how many times whole patients are resampled.
        level: share of the resampled areas inside an interval.
        seed: of the resampling.

    Returns:
        One entry per class, in the order of `names`.

    Raises:
        ValueError: if the shapes differ, a score is not finite, or a level or number of resamples is impossible.

    >>> chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    >>> curves = label_rocs(chances, np.array([0, 0, 1, 1]), ["benign", "malignant"], list("abcd"))
    >>> [curve.auc.estimate for curve in curves]
    [0.75, 0.75]
    """
    if scores.shape != (len(truths), len(names)) or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.shape} must be finite, ({len(truths)} images, {len(names)} classes)")
    _require_images(truths, patients)
    weights = patient_weights(patients, n_resamples=n_resamples, seed=seed)
    return [_label_roc(name, scores[:, index], truths == index, weights, level) for index, name in enumerate(names)]


def _label_roc(
    name: str, scores: NDArray[np.floating], positive: NDArray[np.bool_], weights: IntArray, level: float
) -> LabelRoc:
    n_images = int(positive.sum())
    if n_images in (0, len(positive)):
        return LabelRoc(name, n_images, (), (), Interval(nan, nan, nan))
    false, true, _ = roc_curve(positive, scores)
    # scikit-learn weighs one resample at a time, which takes seconds; sorted once, all resamples are sums over ties.
    order = np.argsort(scores)
    ties = np.unique(scores[order], return_index=True)[1]
    sides = positive[order], ~positive[order]

    def area(weights: FloatArray) -> FloatArray:
        ours, theirs = (np.add.reduceat(weights[:, order] * side, ties, axis=1) for side in sides)
        return area_under_roc(ours, theirs)

    auc = weighted_interval(area, weights, level)
    return LabelRoc(name, n_images, tuple(false.tolist()), tuple(true.tolist()), auc)


def _require_images(truths: NDArray[np.integer], patients: Sequence[str]) -> None:
    if truths.ndim != 1 or len(truths) != len(patients):
        raise ValueError(f"truths {truths.shape} must be (n_images,), of {len(patients)} images with a patient")
