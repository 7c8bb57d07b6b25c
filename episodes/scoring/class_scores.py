"""Scores of classes, from pixel counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from episodes.scoring.bootstrap import FloatArray, IntArray, Interval
from episodes.scoring.statistics import patient_weights, weighted_interval


@dataclass(frozen=True, slots=True)
class Ratios:
    """A score as a ratio of sums over images, by class; each array is (n_images, n_classes).

    A class with nothing in `present` has no score; otherwise one with nothing in `bottom` scores 0.
    """

    top: FloatArray
    bottom: FloatArray
    present: FloatArray

    def of(self, index: int) -> "Ratios":
        """The score of one class."""
        return Ratios(*(values[:, [index]] for values in (self.top, self.bottom, self.present)))

    def mean(self, weights: FloatArray) -> FloatArray:
        """Of weighted images (m, n_images) the mean over the classes that have a score, (m,)."""
        tops, bottoms, present = (weights @ values for values in (self.top, self.bottom, self.present))
        scores = np.divide(tops, bottoms, out=np.zeros_like(tops), where=(bottoms > 0) & (present > 0))
        n_scores = np.count_nonzero(present, axis=1)
        means = np.full(len(scores), nan)
        np.divide(scores.sum(axis=1), n_scores, out=means, where=n_scores > 0)
        return means

    def interval(self, weights: IntArray, level: float) -> Interval:
        """The mean over classes with its interval, from the images it depends on."""
        counts = ((self.bottom > 0) | (self.present > 0)).any(axis=1)
        kept = Ratios(self.top[counts], self.bottom[counts], self.present[counts])
        return weighted_interval(kept.mean, weights[:, counts], level)


def pooled_rates(counts: NDArray[np.generic]) -> dict[str, Ratios]:
    """Scores of pooled counts: of true and false positives, false and true negatives, (n_images, n_classes, 4)."""
    hits, false_alarms, misses, rest = np.moveaxis(counts.astype(np.float64), -1, 0)
    present, others = hits + misses, rest + false_alarms
    return {
        "sensitivity": Ratios(hits, present, present),
        "specificity": Ratios(rest, others, others),
        "precision": Ratios(hits, hits + false_alarms, present),
        "f1": Ratios(2 * hits, 2 * hits + false_alarms + misses, present),
    }


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well the pixels of one class are found; every score with its interval over patients.

    Attributes:
        name: of the class.
        n_images: how many images hold the class.
        n_absent: how many do not, and have no Dice or IoU.
        dice: mean over the images that hold the class; a missed one scores 0.
        iou: likewise.
        sensitivity: share of the class's pixels that are found, pixels pooled over all images.
        specificity: share of all other pixels that are not taken for the class, pooled.
        precision: share of the pixels taken for the class that are of it, pooled.
        f1: harmonic mean of precision and sensitivity, pooled (the Dice of all images laid side by side).
        dice_empty_as_one: mean Dice over *all* images, 1 where the class is neither present nor predicted: what
            published code reports. It rewards predicting nothing and is here for comparison alone.
    """

    name: str
    n_images: int
    n_absent: int
    dice: Interval
    iou: Interval
    sensitivity: Interval
    specificity: Interval
    precision: Interval
    f1: Interval
    dice_empty_as_one: Interval


def confusion_matrix(truths: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> IntArray:
    """Count by truth (rows) and prediction (columns).

    Args:
        truths: class indices from 0 to n_classes - 1, of any shape.
        predictions: the same, of the same shape.
        n_classes: how many classes there are.

    Returns:
        Counts, (n_classes, n_classes).

    Raises:
        ValueError: if the shapes differ or an index is out of range.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    if truths.shape != predictions.shape:
        raise ValueError(f"predictions {predictions.shape} and truths {truths.shape} differ in shape")
    for name, values in (("truths", truths), ("predictions", predictions)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < n_classes:
            raise ValueError(
                f"{name} must be class indices from 0 to {n_classes - 1}, not from {values.min()} to {values.max()}"
            )
    cells = truths.astype(np.intp).ravel() * n_classes + predictions.ravel()
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def count_pixels(predicted: NDArray[np.integer], truth: NDArray[np.integer], n_classes: int) -> IntArray:
    """Count one image's pixels by what each class got right and wrong.

    Args:
        predicted: class map, 0 background and 1 to n_classes, (H, W).
        truth: the same for the annotation; a lesion of unknown kind has no place among benign and malignant.
        n_classes: how many classes there are beside background.

    Returns:
        True positives, false positives, false negatives and true negatives of classes 1 to n_classes, (n_classes, 4).

    Raises:
        ValueError: if the shapes differ or a value is out of range.

    >>> count_pixels(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]]), 2)
    array([[1, 1, 0, 2],
           [1, 0, 1, 2]])
    """
    confusion = confusion_matrix(truth, predicted, n_classes + 1)
    hits = confusion.diagonal()
    false_alarms, misses = confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits
    rest = confusion.sum() - hits - false_alarms - misses
    return np.stack([hits, false_alarms, misses, rest], axis=1)[1:]


def class_scores(
    counts: IntArray,
    names: Sequence[str],
    patients: Sequence[str],
    *,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[ClassScores]:
    """Score how well the pixels of each class are found.

    Args:
        counts: `count_pixels` of every image, stacked, (n_images, n_classes, 4).
        names: of the classes.
        patients: whose image each is, (n_images,).
        n_resamples: how many times whole patients are resampled.
        level: share of the resampled scores inside an interval.
        seed: of the resampling.

    Returns:
        One entry per class, in the order of `names`.

    Raises:
        ValueError: if the counts do not fit names and patients, or a level or number of resamples is impossible.

    >>> missed, found = [[0, 0, 4, 12]], [[4, 0, 0, 12]]
    >>> empty = [[0, 0, 0, 16]]
    >>> scores, = class_scores(np.array([missed, found, empty, empty]), ["malignant"], list("abcd"))
    >>> scores.dice.estimate, scores.dice_empty_as_one.estimate
    (0.5, 0.75)
    """
    counts = np.asarray(counts)
    if counts.shape != (len(patients), len(names), 4):
        raise ValueError(f"counts {counts.shape} must be ({len(patients)} images, {len(names)} classes, 4)")
    weights = patient_weights(patients, n_resamples=n_resamples, seed=seed)
    rates = {**_overlaps(counts), **pooled_rates(counts)}
    held = np.count_nonzero(rates["dice"].present, axis=0)
    return [
        ClassScores(
            name=name,
            n_images=int(held[index]),
            n_absent=len(counts) - int(held[index]),
            **{key: ratios.of(index).interval(weights, level) for key, ratios in rates.items()},
        )
        for index, name in enumerate(names)
    ]


def _overlaps(counts: IntArray) -> dict[str, Ratios]:
    """Means over images of what counts like those of `pooled_rates` give for each."""
    hits, false_alarms, misses, _ = np.moveaxis(counts.astype(np.float64), -1, 0)
    held, every = (hits + misses > 0).astype(np.float64), np.ones_like(hits)
    union = hits + false_alarms + misses
    dice = np.divide(2 * hits, union + hits, out=np.ones_like(hits), where=union > 0)
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    return {
        "dice": Ratios(dice * held, held, held),
        "iou": Ratios(iou * held, held, held),
        "dice_empty_as_one": Ratios(dice, every, every),
    }
