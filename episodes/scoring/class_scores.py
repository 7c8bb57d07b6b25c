"""Scores of the classes of pixels, and of labels of whole images: normal, benign or malignant."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from episodes.scoring.bootstrap import FloatArray, IntArray, ratio
from episodes.scoring.curves import area_under_roc
from episodes.scoring.statistics import Interval, crossed_bootstrap, weighted_interval


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of how well the pixels of one class are found; every score with its interval over patients.

    Dice and IoU are means over the images that hold the class, a missed one scoring 0; sensitivity, specificity,
    precision and F1 are of pixels pooled over all images. `dice_empty_as_one` is the mean Dice over *all* images, 1
    where the class is neither present nor predicted: what published code reports. It rewards predicting nothing and is
    here for comparison alone.
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


@dataclass(frozen=True, slots=True)
class ClassLabelScores:
    """Scores of how well the images of one class are told from all others; every score with its interval over patients.

    Recall is sensitivity. Without any image of the class, all scores but specificity are NaN.
    """

    name: str
    n_images: int
    precision: Interval
    recall: Interval
    specificity: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of how well images are labelled; every score with its interval over patients.

    The confusion is by truth (rows) and prediction (columns). Macro means are over the classes that have images, each
    counting once; macro recall is also called balanced accuracy.
    """

    confusion: tuple[tuple[int, ...], ...]
    accuracy: Interval
    macro_precision: Interval
    macro_recall: Interval
    macro_f1: Interval
    classes: tuple[ClassLabelScores, ...]


@dataclass(frozen=True, slots=True)
class LabelRoc:
    """The receiver operating characteristic of one class against the rest, over images; the area with its interval.

    The rates are those at falling thresholds, from 0 to 1; empty where all images or none are of the class.
    """

    name: str
    n_images: int
    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    auc: Interval


@dataclass(frozen=True, slots=True)
class Ratios:
    """A score as a ratio of sums over images, by class; each array is (n_images, n_classes).

    A class with nothing in `present` has no score; otherwise one with nothing in `bottom` scores 0.
    """

    top: FloatArray
    bottom: FloatArray
    present: FloatArray

    def mean(self, weights: FloatArray) -> FloatArray:
        """Average over the classes that have a score, of weighted images (m, n_images), (m,)."""
        tops, bottoms, present = (weights @ values for values in (self.top, self.bottom, self.present))
        scores = np.divide(tops, bottoms, out=np.zeros_like(tops), where=(bottoms > 0) & (present > 0))
        return ratio(scores.sum(axis=1), np.count_nonzero(present, axis=1))

    def interval(self, patients: Sequence[str], index: int | None = None) -> Interval:
        """Return the mean over classes, or the score of one, with its interval, from the images it depends on."""
        classes = slice(None) if index is None else [index]
        ours = Ratios(self.top[:, classes], self.bottom[:, classes], self.present[:, classes])
        counts = ((ours.bottom > 0) | (ours.present > 0)).any(axis=1)
        kept = Ratios(ours.top[counts], ours.bottom[counts], ours.present[counts])
        return weighted_interval(kept.mean, np.asarray(patients, dtype=str)[counts].tolist(), bounds=(0, 1))


def _pooled(counts: NDArray[np.generic]) -> dict[str, Ratios]:
    """Return scores of pooled counts: true and false positives, false and true negatives, (n_images, n_classes, 4)."""
    hits, false_alarms, misses, rest = np.moveaxis(counts.astype(np.float64), -1, 0)
    present, others = hits + misses, rest + false_alarms
    return {
        "sensitivity": Ratios(hits, present, present),
        "specificity": Ratios(rest, others, others),
        "precision": Ratios(hits, hits + false_alarms, present),
        "f1": Ratios(2 * hits, 2 * hits + false_alarms + misses, present),
    }


def _image_by_image(counts: IntArray) -> dict[str, FloatArray]:
    """Return scores of each image, (n_images, n_classes), of which the means are reported; NaN where undefined."""
    hits, false_alarms, misses, _ = np.moveaxis(counts.astype(np.float64), -1, 0)
    union = hits + false_alarms + misses
    dice = np.divide(2 * hits, union + hits, out=np.ones_like(hits), where=union > 0)
    iou = np.divide(hits, union, out=np.zeros_like(hits), where=union > 0)
    held = hits + misses > 0
    return {"dice": np.where(held, dice, nan), "iou": np.where(held, iou, nan), "dice_empty_as_one": dice}


def confusion_matrix(truths: NDArray[np.integer], predictions: NDArray[np.integer], n_classes: int) -> IntArray:
    """Count class indices, of any shape, by truth (rows) and prediction (columns), (n_classes, n_classes).

    Twenty times as fast on the pixels of an image as scikit-learn's, which also leaves unknown classes out in silence.

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
    """Count one image's pixels by what each class got right and wrong, (n_classes, 4).

    The class maps (H, W) are 0 for background and 1 to n_classes; a lesion of unknown kind has no place among benign
    and malignant. The counts are true positives, false positives, false negatives and true negatives of classes 1 to
    n_classes.

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


def class_scores(counts: IntArray, names: Sequence[str], patients: Sequence[str]) -> list[ClassScores]:
    """Score how well the pixels of each class are found, in the order of `names`.

    The counts are `count_pixels` of every image, (n_images, n_classes, 4); patients say whose each is, (n_images,).

    Raises:
        ValueError: if the counts do not fit names and patients.

    >>> missed, found = [[0, 0, 4, 12]], [[4, 0, 0, 12]]
    >>> empty = [[0, 0, 0, 16]]
    >>> scores, = class_scores(np.array([missed, found, empty, empty]), ["malignant"], list("abcd"))
    >>> scores.dice.estimate, scores.dice_empty_as_one.estimate
    (0.5, 0.75)
    """
    if counts.shape != (len(patients), len(names), 4):
        raise ValueError(f"counts {counts.shape} must be ({len(patients)} images, {len(names)} classes, 4)")
    means, rates = _image_by_image(counts), _pooled(counts)
    held = np.count_nonzero(~np.isnan(means["dice"]), axis=0)
    return [
        ClassScores(
            name=name,
            n_images=int(held[index]),
            n_absent=len(counts) - int(held[index]),
            **{key: crossed_bootstrap(one[:, index][None], patients, bounds=(0, 1)) for key, one in means.items()},
            **{key: ratios.interval(patients, index) for key, ratios in rates.items()},
        )
        for index, name in enumerate(names)
    ]


def label_scores(
    truths: NDArray[np.integer], predictions: NDArray[np.integer], names: Sequence[str], patients: Sequence[str]
) -> LabelScores:
    """Score how well images are labelled.

    Truths and predictions are indices into `names`, (n_images,); `patients` says whose image each is, (n_images,).

    Raises:
        ValueError: if the shapes differ, or an index is out of range.

    >>> truths, predictions = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    >>> scores = label_scores(truths, predictions, ["normal", "benign", "malignant"], list("abcd"))
    >>> scores.accuracy.estimate, scores.macro_precision.estimate, scores.classes[1].recall.estimate
    (0.75, 0.8333333333333334, 0.5)
    """
    confusion = confusion_matrix(truths, predictions, len(names))
    _require_images(truths, patients)
    ours, theirs = (values[:, None] == np.arange(len(names)) for values in (predictions, truths))
    # An image is a picture of one pixel here: its label.
    rates = _pooled(np.stack([ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs], axis=-1))
    rates["recall"] = rates.pop("sensitivity")
    every = np.ones((len(truths), 1))
    right = (truths == predictions).astype(np.float64)[:, None]
    return LabelScores(
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        accuracy=Ratios(right, every, every).interval(patients),
        macro_precision=rates["precision"].interval(patients),
        macro_recall=rates["recall"].interval(patients),
        macro_f1=rates["f1"].interval(patients),
        classes=tuple(
            ClassLabelScores(
                name=name,
                n_images=int(theirs[:, index].sum()),
                **{key: ratios.interval(patients, index) for key, ratios in rates.items()},
            )
            for index, name in enumerate(names)
        ),
    )


def label_rocs(
    scores: NDArray[np.floating], truths: NDArray[np.integer], names: Sequence[str], patients: Sequence[str]
) -> list[LabelRoc]:
    """Compute the ROC of each class against the rest over images, and the area under it, in the order of `names`.

    Scores are large where a class is likely, such as probabilities, (n_images, n_classes); truths are indices into
    `names`, (n_images,); `patients` says whose image each is, (n_images,).

    Raises:
        ValueError: if the shapes differ, or a score is not finite.

    >>> chances = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    >>> curves = label_rocs(chances, np.array([0, 0, 1, 1]), ["benign", "malignant"], list("abcd"))
    >>> [curve.auc.estimate for curve in curves]
    [0.75, 0.75]
    """
    if scores.shape != (len(truths), len(names)) or not np.isfinite(scores).all():
        raise ValueError(f"scores {scores.shape} must be finite, ({len(truths)} images, {len(names)} classes)")
    _require_images(truths, patients)
    return [_label_roc(name, scores[:, index], truths == index, patients) for index, name in enumerate(names)]


def _label_roc(
    name: str, scores: NDArray[np.floating], positive: NDArray[np.bool_], patients: Sequence[str]
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

    fewer = min(len(np.unique(np.asarray(patients)[side])) for side in (positive, ~positive))
    auc = weighted_interval(area, patients, bounds=(0, 1), n_units=fewer)
    return LabelRoc(name, n_images, tuple(false.tolist()), tuple(true.tolist()), auc)


def _require_images(truths: NDArray[np.integer], patients: Sequence[str]) -> None:
    if truths.ndim != 1 or len(truths) != len(patients):
        raise ValueError(f"truths {truths.shape} must be (n_images,), of {len(patients)} images with a patient")
