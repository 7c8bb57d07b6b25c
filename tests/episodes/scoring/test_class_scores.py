"""Scores of pixels and of labels against scikit-learn, `mask_scores` and a loop over resamples, and by hand."""

import json
from dataclasses import asdict
from functools import partial
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)
from sklearn.metrics import confusion_matrix as reference_confusion

from episodes.scoring import mask_scores as metrics
from episodes.scoring.bootstrap import Variance, widen
from episodes.scoring.class_scores import (
    ClassScores,
    class_scores,
    confusion_matrix,
    count_pixels,
    label_rocs,
    label_scores,
)
from episodes.scoring.statistics import Interval, crossed_bootstrap, patient_weights, weighted_interval

Maps = NDArray[np.uint8]
LESIONS = ["benign", "malignant"]


def study(seed: int, n_images: int = 24, n_patients: int = 7) -> tuple[Maps, Maps, list[str]]:
    """Predicted and true class maps: each image one label, found, taken for the other class, or missed."""
    rng = np.random.default_rng(seed)
    truths = (rng.random((n_images, 6, 5)) < 0.4) * rng.integers(3, size=(n_images, 1, 1))
    noise = rng.integers(3, size=truths.shape)
    predicted = np.where(rng.random(truths.shape) < 0.3, noise, truths)
    predicted[rng.random(n_images) < 0.3] = 0
    patients = [f"patient {i}" for i in rng.integers(n_patients, size=n_images)]
    return predicted.astype(np.uint8), truths.astype(np.uint8), patients


def counted(predicted: Maps, truths: Maps, n_classes: int = 2) -> NDArray[np.int64]:
    return np.stack([count_pixels(ours, theirs, n_classes) for ours, theirs in zip(predicted, truths, strict=True)])


def intervals(scores: object) -> dict[str, Interval]:
    found = {name: getattr(scores, name) for name in scores.__dataclass_fields__}  # type: ignore[attr-defined]
    return {name: value for name, value in found.items() if isinstance(value, Interval)}


def estimates(scores: object) -> dict[str, float]:
    return {name: interval.estimate for name, interval in intervals(scores).items()}


# Pixels against independent references


@pytest.mark.parametrize("seed", range(5))
def test_pixel_counts_equal_scikit_learn(seed: int) -> None:
    predicted, truths, _ = study(seed)
    for ours, theirs in zip(predicted, truths, strict=True):
        matrices = multilabel_confusion_matrix(theirs.ravel(), ours.ravel(), labels=[1, 2])
        expected = [[m[1, 1], m[0, 1], m[1, 0], m[0, 0]] for m in matrices]
        np.testing.assert_array_equal(count_pixels(ours, theirs, 2), expected)


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_iou_are_the_means_of_the_metrics_of_single_images(seed: int) -> None:
    """With their rule for empty masks, and with the interval of the bootstrap over the same patients."""
    predicted, truths, patients = study(seed)
    for index, scores in enumerate(class_scores(counted(predicted, truths), LESIONS, patients), start=1):
        pairs = list(zip(predicted == index, truths == index, strict=True))
        for name in ("dice", "iou"):
            interval = getattr(scores, name)
            values = np.array([getattr(metrics.score(*pair), name) for pair in pairs])
            assert interval.estimate == pytest.approx(np.nanmean(values))
        assert scores.n_images == np.count_nonzero(~np.isnan(values))
        assert scores.n_images + scores.n_absent == len(truths)


@pytest.mark.parametrize("seed", range(3))
def test_means_over_images_have_the_interval_that_the_same_mean_has_elsewhere(seed: int) -> None:
    """One score has one interval, whichever table it stands in."""
    predicted, truths, patients = study(seed)
    values = np.array([metrics.dice(o == 1, t == 1) for o, t in zip(predicted, truths, strict=True)])
    scores = class_scores(counted(predicted, truths), LESIONS, patients)[0]
    assert scores.dice == crossed_bootstrap(values[None], patients, bounds=(0, 1))


@pytest.mark.parametrize("seed", range(5))
def test_pooled_scores_equal_scikit_learn(seed: int) -> None:
    predicted, truths, patients = study(seed)
    flat = truths.ravel(), predicted.ravel()
    reference = precision_recall_fscore_support(*flat, labels=[1, 2], zero_division=0)
    for index, scores in enumerate(class_scores(counted(predicted, truths), LESIONS, patients)):
        found = scores.precision.estimate, scores.sensitivity.estimate, scores.f1.estimate
        assert found == pytest.approx([values[index] for values in reference[:3]])
        others = flat[0] != index + 1
        assert scores.specificity.estimate == pytest.approx(np.mean(flat[1][others] != index + 1))


def widened(estimate: float, resampled: list[float], without_each: list[float]) -> tuple[float, float]:
    """The interval of a score in [0, 1] that is scored afresh on every resample, and without each patient."""
    values, left = (np.array(found)[~np.isnan(found)] for found in (resampled, without_each))
    variance = Variance((left.size - 1) * float(left.var()), 0.0, 0.0, n_patients=left.size, n_draws=1)
    low, high = np.quantile(widen(values, estimate, variance), [0.025, 0.975]).clip(0, 1)
    return float(low), float(high)


def written_out(patients: list[str], n_resamples: int) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """How often each image counts in each resample, and without each patient."""
    names = np.array(patients)
    weights = patient_weights(patients, n_resamples=n_resamples)
    return list(weights), [(names != name).astype(int) for name in sorted(set(patients))]


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> int:
    few = partial(weighted_interval, n_resamples=60)
    monkeypatch.setattr("episodes.scoring.class_scores.weighted_interval", few)
    return 60


@pytest.mark.parametrize("seed", range(3))
def test_intervals_equal_a_loop_over_resampled_images(seed: int, few_resamples: int) -> None:
    """Every image that a score depends on written out as often as a resample holds it, and scored afresh."""
    predicted, truths, patients = study(seed)
    counts = counted(predicted, truths)
    scores = class_scores(counts, LESIONS, patients)[1]
    hits, false_alarms, misses, _ = counts[:, 1].T
    held, either = hits + misses > 0, hits + misses + false_alarms > 0
    depends = {"sensitivity": held, "specificity": held | True, "precision": either, "f1": either}
    for name, images in depends.items():
        ours, owners = counts[images], np.array(patients)[images].tolist()
        resampled, without_each = (
            [estimates(class_scores(np.repeat(ours, w, axis=0), LESIONS, ["a"] * w.sum())[1])[name] for w in weights]
            for weights in written_out(owners, few_resamples)
        )
        interval = getattr(scores, name)
        expected = widened(interval.estimate, resampled, without_each)
        assert (interval.low, interval.high) == pytest.approx(expected), name


# Pixels by hand


def test_confusion_has_truth_in_rows() -> None:
    expected = [[0, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 2]), 3).tolist() == expected


def one(counts: list[list[int]]) -> ClassScores:
    """Scores of one class, every image a patient."""
    return class_scores(np.array(counts)[:, None], ["malignant"], list("abcdefgh"[: len(counts)]))[0]


def test_a_model_that_predicts_nothing_scores_nothing_but_what_published_code_gives_it() -> None:
    """419 of BUS-UCLM's 683 images are normal."""
    scores = one([[0, 0, 10, 90]] + [[0, 0, 0, 100]] * 4)
    expected = dict.fromkeys(["dice", "iou", "sensitivity", "precision", "f1"], 0.0)
    assert estimates(scores) == {**expected, "specificity": 1.0, "dice_empty_as_one": 0.8}
    assert (scores.n_images, scores.n_absent) == (1, 4)


def test_false_positives_on_absent_images_cost_pooled_scores_and_no_dice() -> None:
    scores = one([[10, 0, 0, 90], [0, 10, 0, 90]])
    assert scores.dice.estimate == scores.iou.estimate == scores.sensitivity.estimate == 1
    assert scores.precision.estimate == 0.5
    assert scores.specificity.estimate == 180 / 190
    assert scores.f1.estimate == pytest.approx(2 / 3)
    assert scores.dice_empty_as_one.estimate == 0.5


def test_large_lesions_dominate_pooled_scores_alone() -> None:
    scores = one([[99, 0, 0, 1], [0, 0, 1, 99]])
    assert (scores.dice.estimate, scores.iou.estimate) == (0.5, 0.5)
    assert scores.sensitivity.estimate == 0.99


def test_an_absent_class_has_no_score_but_its_specificity() -> None:
    scores = one([[0, 10, 0, 90], [0, 0, 0, 100]])
    values = estimates(scores)
    assert values.pop("specificity") == 190 / 200
    assert values.pop("dice_empty_as_one") == 0.5
    assert all(map(isnan, values.values()))
    assert scores.n_images == 0


def test_a_class_that_one_patient_holds_has_estimates_without_interval() -> None:
    scores = one([[8, 0, 2, 90], [0, 0, 0, 100], [0, 0, 0, 100]])
    assert scores.sensitivity.estimate == 0.8
    assert isnan(scores.sensitivity.low)
    assert isnan(scores.dice.high)
    assert scores.dice_empty_as_one.low < 1


def test_one_patient_has_no_interval_at_all() -> None:
    predicted, truths, _ = study(0)
    scores = class_scores(counted(predicted, truths), LESIONS, ["a"] * len(truths))
    assert all(isnan(interval.low) for entry in scores for interval in intervals(entry).values())
    assert not any(map(isnan, estimates(scores[0]).values()))


def test_no_images_have_no_scores() -> None:
    scores = class_scores(np.empty((0, 1, 4), int), ["benign"], [])[0]
    assert all(map(isnan, estimates(scores).values()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_scores_lie_between_0_and_1_and_iou_below_dice(seed: int) -> None:
    predicted, truths, patients = study(seed)
    for scores in class_scores(counted(predicted, truths), LESIONS, patients):
        assert scores.iou.estimate <= scores.dice.estimate or isnan(scores.dice.estimate)
        for interval in intervals(scores).values():
            assert all(0 <= value <= 1 for value in asdict(interval).values() if not isnan(value))
            assert isnan(interval.low) or interval.low <= interval.high


# What comes out, and errors


def test_results_go_into_json() -> None:
    predicted, truths, patients = study(1)
    for result in class_scores(counted(predicted, truths), LESIONS, patients):
        json.dumps(asdict(result), allow_nan=False)


def test_impossible_arguments_are_named() -> None:
    maps = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"predictions \(2, 2\) and truths \(1, 2\) differ in shape"):
        count_pixels(maps, maps[:1], 2)
    with pytest.raises(ValueError, match="truths must be class indices from 0 to 2, not from 3 to 3"):
        count_pixels(maps, maps + np.uint8(3), 2)
    with pytest.raises(ValueError, match="predictions must be class indices from 0 to 1, not from -1 to 0"):
        confusion_matrix(np.array([0, 1]), np.array([0, -1]), 2)
    with pytest.raises(ValueError, match=r"counts \(2, 1, 4\) must be \(2 images, 2 classes, 4\)"):
        class_scores(np.zeros((2, 1, 4), int), LESIONS, ["a", "b"])


LABELS = ["normal", "benign", "malignant"]


def labels(seed: int, n_images: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    rng = np.random.default_rng(seed)
    truths = rng.integers(3, size=n_images)
    predictions = np.where(rng.random(n_images) < 0.4, rng.integers(3, size=n_images), truths)
    return truths, predictions, [f"patient {i}" for i in rng.integers(15, size=n_images)]


@pytest.mark.parametrize("seed", range(5))
def test_label_scores_equal_scikit_learn(seed: int) -> None:
    truths, predictions, patients = labels(seed)
    scores = label_scores(truths, predictions, LABELS, patients)
    np.testing.assert_array_equal(scores.confusion, reference_confusion(truths, predictions))
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
def test_label_intervals_equal_a_loop_over_resampled_images(seed: int, few_resamples: int) -> None:
    """Few images, so that classes are missing from some resamples."""
    truths, predictions, patients = (values[:9] for values in labels(seed))
    scores = label_scores(truths, predictions, LABELS, patients)
    for name, interval in intervals(scores).items():
        resampled, without_each = (
            [
                estimates(label_scores(np.repeat(truths, w), np.repeat(predictions, w), LABELS, ["a"] * w.sum()))[name]
                for w in weights
            ]
            for weights in written_out(patients, few_resamples)
        )
        expected = widened(interval.estimate, resampled, without_each)
        assert (interval.low, interval.high) == pytest.approx(expected), name


def test_a_class_without_images_is_left_out_of_macro_averages() -> None:
    scores = label_scores(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), LABELS, list("abcd"))
    malignant = scores.classes[2]
    assert all(map(isnan, (malignant.precision.estimate, malignant.recall.estimate, malignant.f1.estimate)))
    assert malignant.specificity.estimate == 0.75
    assert (scores.macro_recall.estimate, scores.macro_precision.estimate) == (0.75, 1.0)
    assert scores.macro_f1.estimate == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_never_predicted_counts_as_0_in_macro_averages() -> None:
    scores = label_scores(np.array([0, 1]), np.array([0, 0]), LABELS, list("ab"))
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
    for index, curve in enumerate(label_rocs(scores, truths, LABELS, patients)):
        positive = truths == index
        assert curve.auc.estimate == pytest.approx(roc_auc_score(positive, scores[:, index]))
        area = np.trapezoid(curve.true_positive_rates, curve.false_positive_rates)
        assert area == pytest.approx(curve.auc.estimate)
        assert curve.n_images == positive.sum()


def test_intervals_of_areas_equal_scikit_learn_with_weights(few_resamples: int) -> None:
    truths, _, patients = labels(1)
    scores = np.random.default_rng(1).random((len(truths), 3)).round(1)
    resampled, without_each = (
        [float(roc_auc_score(truths == 2, scores[:, 2], sample_weight=w)) for w in weights]
        for weights in written_out(patients, few_resamples)
    )
    found = label_rocs(scores, truths, LABELS, patients)[2].auc
    assert (found.low, found.high) == pytest.approx(widened(found.estimate, resampled, without_each))


def test_perfect_areas_of_few_positive_patients_are_as_unsure_as_these_are_few() -> None:
    truths = np.array([1, 1, 0, 0, 0, 0, 0, 0])
    chances = np.stack([1 - truths, truths], axis=1).astype(float)
    for patients, few in ((list("abcdefgh"), 2), (list("abcabcab"), 2)):
        auc = label_rocs(chances, truths, LABELS[:2], patients)[1].auc
        assert (auc.estimate, auc.low, auc.high) == pytest.approx((1, 0.025 ** (1 / few), 1))


@pytest.mark.parametrize("truth", [0, 1])
def test_a_class_of_all_images_or_none_has_no_roc(truth: int) -> None:
    curve = label_rocs(np.full((3, 2), 0.5), np.full(3, truth), LABELS[:2], list("abc"))[0]
    assert isnan(curve.auc.estimate)
    assert curve.false_positive_rates == curve.true_positive_rates == ()


# What comes out, and errors


def test_scores_of_labels_go_into_json() -> None:
    truths, predictions, patients = labels(1)
    chances = np.random.default_rng(0).random((len(truths), 3))
    for result in (
        label_scores(truths, predictions, LABELS, patients),
        *label_rocs(chances, truths, LABELS, patients),
    ):
        json.dumps(asdict(result), allow_nan=False)


def test_impossible_labels_are_named() -> None:
    truths = np.array([0, 1])
    with pytest.raises(ValueError, match=r"truths \(2,\) must be \(n_images,\), of 3 images"):
        label_scores(truths, truths, LABELS, list("abc"))
    with pytest.raises(ValueError, match=r"scores \(2, 2\) must be finite, \(2 images, 3 classes\)"):
        label_rocs(np.zeros((2, 2)), truths, LABELS, list("ab"))
    with pytest.raises(ValueError, match="must be finite"):
        label_rocs(np.full((2, 3), np.nan), truths, LABELS, list("ab"))
    with pytest.raises(ValueError, match="predictions must be class indices from 0 to 2, not from 0 to 3"):
        label_scores(truths, np.array([0, 3]), LABELS, list("ab"))
