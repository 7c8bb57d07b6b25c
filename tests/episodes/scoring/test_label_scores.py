"""Labels' scores against scikit-learn and a plain loop over resamples, and cases worked by hand."""

import json
from dataclasses import asdict
from math import isnan

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from episodes.scoring.class_scores import label_rocs, label_scores
from episodes.scoring.statistics import Interval, patient_weights

LABELS = ["normal", "benign", "malignant"]


def labels(seed: int, n_images: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    rng = np.random.default_rng(seed)
    truths = rng.integers(3, size=n_images)
    predictions = np.where(rng.random(n_images) < 0.4, rng.integers(3, size=n_images), truths)
    return truths, predictions, [f"patient {i}" for i in rng.integers(15, size=n_images)]


def intervals(scores: object) -> dict[str, Interval]:
    found = {name: getattr(scores, name) for name in scores.__dataclass_fields__}  # type: ignore[attr-defined]
    return {name: value for name, value in found.items() if isinstance(value, Interval)}


@pytest.mark.parametrize("seed", range(5))
def test_label_scores_equal_scikit_learn(seed: int) -> None:
    truths, predictions, patients = labels(seed)
    scores = label_scores(truths, predictions, LABELS, patient_weights(patients))
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(truths, predictions))
    assert scores.accuracy.estimate == pytest.approx(accuracy_score(truths, predictions))
    macro = precision_recall_fscore_support(truths, predictions, average="macro")[:3]
    found = scores.macro_precision.estimate, scores.macro_recall.estimate, scores.macro_f1.estimate
    assert found == pytest.approx(macro)
    reference = np.transpose(precision_recall_fscore_support(truths, predictions))
    matrices = multilabel_confusion_matrix(truths, predictions)
    for entry, expected, matrix in zip(scores.classes, reference, matrices, strict=True):
        found = entry.precision.estimate, entry.recall.estimate, entry.f1.estimate, entry.n_images
        assert found == pytest.approx(expected)
        assert entry.specificity.estimate == matrix[0, 0] / matrix[0].sum()


@pytest.mark.parametrize("seed", range(3))
def test_label_intervals_equal_a_loop_over_resampled_images(seed: int) -> None:
    """Few images, so that classes are missing from some resamples."""
    truths, predictions, patients = (values[:9] for values in labels(seed))
    weights = patient_weights(patients, n_resamples=80, seed=seed)
    scores = label_scores(truths, predictions, LABELS, weights)
    repeated = [
        label_scores(np.repeat(truths, w), np.repeat(predictions, w), LABELS, patient_weights(["a"] * w.sum()))
        for w in weights
    ]
    for name, interval in intervals(scores).items():
        low, high = np.quantile([getattr(resample, name).estimate for resample in repeated], [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high)), name


def test_a_class_without_images_is_left_out_of_macro_averages() -> None:
    scores = label_scores(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), LABELS, patient_weights(list("abcd")))
    malignant = scores.classes[2]
    assert all(map(isnan, (malignant.precision.estimate, malignant.recall.estimate, malignant.f1.estimate)))
    assert malignant.specificity.estimate == 0.75
    assert (scores.macro_recall.estimate, scores.macro_precision.estimate) == (0.75, 1.0)
    assert scores.macro_f1.estimate == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_never_predicted_counts_as_0_in_macro_averages() -> None:
    scores = label_scores(np.array([0, 1]), np.array([0, 0]), LABELS, patient_weights(list("ab")))
    assert scores.classes[1].precision.estimate == 0
    assert scores.macro_precision.estimate == (0.5 + 0) / 2


# ROC


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [1, 8])
def test_roc_of_images_equals_scikit_learn(seed: int, digits: int) -> None:
    """Rounded to one digit, most scores are tied."""
    truths, _, patients = labels(seed)
    scores = np.random.default_rng(seed).dirichlet([1, 1, 1], len(truths)).round(digits)
    scores[np.arange(len(truths)), truths] += 0.2
    for index, curve in enumerate(label_rocs(scores, truths, LABELS, patient_weights(patients))):
        positive = truths == index
        assert curve.auc.estimate == pytest.approx(roc_auc_score(positive, scores[:, index]))
        area = np.trapezoid(curve.true_positive_rates, curve.false_positive_rates)
        assert area == pytest.approx(curve.auc.estimate)
        assert curve.n_images == positive.sum()


def test_intervals_of_areas_equal_scikit_learn_with_weights() -> None:
    truths, _, patients = labels(1)
    scores = np.random.default_rng(1).random((len(truths), 3)).round(1)
    weights = patient_weights(patients, n_resamples=50, seed=3)
    areas = [roc_auc_score(truths == 2, scores[:, 2], sample_weight=w) for w in weights]
    found = label_rocs(scores, truths, LABELS, weights)[2].auc
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))


@pytest.mark.parametrize("truth", [0, 1])
def test_a_class_of_all_images_or_none_has_no_roc(truth: int) -> None:
    curve = label_rocs(np.full((3, 2), 0.5), np.full(3, truth), LABELS[:2], patient_weights(list("abc")))[0]
    assert isnan(curve.auc.estimate)
    assert curve.false_positive_rates == curve.true_positive_rates == ()


# What comes out, and errors


def test_results_go_into_json() -> None:
    truths, predictions, patients = labels(1)
    chances = np.random.default_rng(0).random((len(truths), 3))
    for result in (
        label_scores(truths, predictions, LABELS, patient_weights(patients)),
        *label_rocs(chances, truths, LABELS, patient_weights(patients)),
    ):
        json.dumps(asdict(result), allow_nan=False)


def test_impossible_arguments_are_named() -> None:
    truths = np.array([0, 1])
    with pytest.raises(ValueError, match=r"truths \(2,\) must be \(n_images,\), of 3 images"):
        label_scores(truths, truths, LABELS, patient_weights(list("abc")))
    with pytest.raises(ValueError, match=r"scores \(2, 2\) must be finite, \(2 images, 3 classes\)"):
        label_rocs(np.zeros((2, 2)), truths, LABELS, patient_weights(list("ab")))
    with pytest.raises(ValueError, match="must be finite"):
        label_rocs(np.full((2, 3), np.nan), truths, LABELS, patient_weights(list("ab")))
    with pytest.raises(ValueError, match="predictions must be class indices from 0 to 2, not from 0 to 3"):
        label_scores(truths, np.array([0, 3]), LABELS, patient_weights(list("ab")))
