"""Every score against what scikit-learn and plain formulas make of the written masks and the stores' label maps."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from baselines.prediction import lesion_logits
from episodes.records import LABEL_VALUES
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Store
from fewshot.evaluate.scores import Results, assess, markdown
from fewshot.inference.predictor import EnsemblePrediction
from tests.fewshot.evaluate.conftest import N_IMAGES, UNKNOWN, Judged
from tests.fewshot.small_networks import small_network

BOTH = pytest.mark.parametrize("kind", ["multitask", "deep_resnet"])


@pytest.fixture
def judged(kind: str, request: pytest.FixtureRequest) -> Judged:
    found = request.getfixturevalue(kind)
    assert isinstance(found, Judged)
    return found


def dice(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs))


def predicted(name: str, store: Store) -> Any:
    with torch.inference_mode():
        return small_network(name).eval().predict(image_tensor(np.array(store.images[:])))


@BOTH
def test_lesion_scores_equal_those_of_the_written_masks(judged: Judged, store: Store) -> None:
    pairs = [(judged.mask(r.id), store.label_maps[row] > 0) for row, r in enumerate(store.records)]
    lesions = [(ours, theirs) for ours, theirs in pairs if theirs.any()]
    normals = [ours for ours, theirs in pairs if not theirs.any()]
    found = judged.numbers
    assert (found["n_images"], found["n_lesion"], found["n_normal"]) == (N_IMAGES, len(lesions), len(normals))
    assert found["n_patients"] == len({record.patient for record in store.records})
    overlaps = [(np.count_nonzero(a & b), np.count_nonzero(a), np.count_nonzero(b)) for a, b in lesions]
    expected = {
        "dice": np.mean([dice(*pair) for pair in lesions]),
        "iou": np.mean([both / (ours + theirs - both) for both, ours, theirs in overlaps]),
        "recall": np.mean([both / theirs for both, _, theirs in overlaps]),
        "precision": np.mean([both / ours if ours else 0 for both, ours, _ in overlaps]),
    }
    assert {name: found["lesion"][name]["estimate"] for name in expected} == pytest.approx(expected)
    assert found["normal"]["false_positive_area"]["estimate"] == pytest.approx(np.mean(normals))
    ours, theirs = (np.concatenate([side.ravel() for side in sides]) for sides in zip(*pairs, strict=True))
    assert found["pixels"]["f1"]["estimate"] == pytest.approx(f1_score(theirs, ours))
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(theirs, ours))
    as_one = [dice(a, b) if (a | b).any() else 1 for a, b in pairs]
    assert found["pixels"]["dice_empty_as_one"]["estimate"] == pytest.approx(np.mean(as_one))


@BOTH
def test_images_csv_says_the_same_image_by_image(judged: Judged, store: Store) -> None:
    rows = {row["image"]: row for row in judged.images}
    assert list(rows) == [record.id for record in store.records]
    for record, label_map in zip(store.records, store.label_maps[:], strict=True):
        row, mask = rows[record.id], judged.mask(record.id)
        assert (row["patient"], row["label"]) == (record.patient_id, record.label)
        assert row["lesion"] == str(int(label_map.any()))
        if label_map.any():
            assert float(row["dice"]) == pytest.approx(dice(mask, label_map > 0))
            assert row["false_positive_area"] == ""
        else:
            assert row["dice"] == ""
            assert float(row["false_positive_area"]) == pytest.approx(mask.mean())
        assert 0 <= float(row["entropy"]) <= 1
        assert float(row["disagreement"]) == 0


@pytest.mark.parametrize(("kind", "name"), [("multitask", "plain-multitask-unet"), ("deep_resnet", "deep-resnet")])
def test_masks_entropy_and_areas_are_of_the_network_s_probabilities(judged: Judged, name: str, store: Store) -> None:
    lesion = lesion_logits(predicted(name, store).classes).sigmoid().numpy().astype(np.float64)
    for row, record in enumerate(store.records):
        agreement = judged.mask(record.id) == (lesion[row] > 0.5)
        assert agreement.mean() > 0.999  # rounding
    auc = roc_auc_score((store.label_maps[:] > 0).ravel(), lesion.ravel())
    assert judged.numbers["roc"]["auc"] == pytest.approx(auc, abs=judged.numbers["roc"]["auc_error"] + 1e-4)
    entropies = -(lesion * np.log2(lesion) + (1 - lesion) * np.log2(1 - lesion))
    assert [float(row["entropy"]) for row in judged.images] == pytest.approx(entropies.mean((1, 2)), abs=1e-4)
    assert judged.numbers["uncertainty"]["mean_entropy"] == pytest.approx(entropies.mean(), abs=1e-4)


# Classes


def test_class_scores_are_of_images_whose_lesions_kind_is_known(deep_resnet: Judged, store: Store) -> None:
    known = [row for row, record in enumerate(store.records) if not record.id.endswith(UNKNOWN)]
    assert len(known) == N_IMAGES - 1
    logits = predicted("deep-resnet", store).classes
    lesion = logits.softmax(1)[:, 1:].sum(1) > 0.5
    maps, truths = ((1 + logits[:, 1:].argmax(1)) * lesion).numpy()[known], store.label_maps[:][known]
    for value, scores in enumerate(deep_resnet.numbers["classes"], start=1):
        held = [place for place, truth in enumerate(truths) if (truth == value).any()]
        assert scores["name"] == ("benign", "malignant")[value - 1]
        assert (scores["n_images"], scores["n_absent"]) == (len(held), len(known) - len(held))
        expected = np.mean([dice(maps[place] == value, truths[place] == value) for place in held])
        assert scores["dice"]["estimate"] == pytest.approx(expected, abs=1e-3)
        ours, theirs = (maps == value).ravel(), (truths == value).ravel()
        assert scores["sensitivity"]["estimate"] == pytest.approx(ours[theirs].mean(), abs=1e-3)
        assert scores["specificity"]["estimate"] == pytest.approx(1 - ours[~theirs].mean(), abs=1e-3)
        curve = deep_resnet.numbers["class_rocs"][scores["name"]]
        chances = logits.softmax(1).numpy()[known, value].ravel()
        assert curve["auc"] == pytest.approx(roc_auc_score(theirs, chances), abs=curve["auc_error"] + 1e-4)


def test_a_network_of_one_class_has_no_class_scores(multitask: Judged) -> None:
    assert multitask.numbers["classes"] == []
    assert multitask.numbers["class_rocs"] == {}


def certain(label_map: NDArray[np.uint8]) -> EnsemblePrediction:
    """A prediction of a label map that is sure of it."""
    classes = np.stack([label_map == value for value in range(3)]).astype(np.float32)
    zeros = np.zeros(label_map.shape, np.float32)
    return EnsemblePrediction(classes, 1 - classes[0], np.zeros(0, np.float32), zeros, zeros, 1)


def test_a_right_prediction_scores_1_and_failures_are_not_ranked(store: Store) -> None:
    results = Results(("benign", "malignant"))
    for row, record in enumerate(store.records):
        truth = np.asarray(store.label_maps[row])
        results.add(record, certain(np.where(truth == 3, 2, truth)), truth)
    found = assess(results)
    assert [one.dice.estimate for one in found.classes] == [1, 1]
    assert found.lesion["dice"].estimate == found.pixel_accuracy == found.roc.auc == 1
    assert found.lesion["hd95"].estimate == found.reliability.expected_calibration_error == 0
    assert math.isnan(found.uncertainty["entropy_to_failure"])
    assert "| benign |" in markdown(found, {"dataset": "clinic"})


def test_without_any_lesion_of_known_kind_there_are_no_class_scores(store: Store) -> None:
    results = Results(("benign", "malignant"))
    for row, record in enumerate(store.records):
        truth = np.where(np.asarray(store.label_maps[row]) > 0, LABEL_VALUES["unknown"], 0).astype(np.uint8)
        results.add(record, certain(np.zeros_like(truth)), truth)
    found = assess(results)
    assert found.classes == ()
    assert found.class_rocs == {}
    # Each lesion is missed: how far other patients' may be off is no more known than how much of them is found.
    distance, dice = found.lesion["hd95"], found.lesion["dice"]
    assert distance.high == pytest.approx(distance.estimate) == pytest.approx(math.hypot(*store.label_maps[0].shape))
    assert distance.low / distance.high == pytest.approx(1 - dice.high)
    assert dice.high > 0
    assert found.lesion["dice"].estimate == 0
    assert "pixels of" not in markdown(found, {"dataset": "clinic"})


def test_without_lesions_their_scores_are_undefined(store: Store) -> None:
    results = Results(("lesion",))
    (row,) = [row for row, record in enumerate(store.records) if not store.label_maps[row].any()][:1]
    truth = np.asarray(store.label_maps[row])
    results.add(store.records[row], certain(truth), truth)
    text = markdown(assess(results), {"dataset": "clinic"})
    assert "**undefined**" in text
    assert "nan" not in text
    assert "| normals with a false lesion | 0.000 |" in text


# Labels


def test_label_scores_are_of_images_with_a_label_of_the_network_s(multitask: Judged, store: Store) -> None:
    names = ["normal", "benign", "malignant"]
    known = [row for row, record in enumerate(store.records) if record.label in names]
    assert len(known) == N_IMAGES - 1
    chances = predicted("plain-multitask-unet", store).labels.softmax(1).numpy()
    calls, truths = chances.argmax(1)[known], [names.index(store.records[row].label) for row in known]
    found = multitask.numbers["labels"]
    assert found["confusion"] == confusion_matrix(truths, calls, labels=[0, 1, 2]).tolist()
    assert found["accuracy"]["estimate"] == pytest.approx(accuracy_score(truths, calls))
    assert found["macro_f1"]["estimate"] == pytest.approx(f1_score(truths, calls, average="macro", zero_division=0))
    for value, curve in enumerate(multitask.numbers["label_rocs"]):
        expected = roc_auc_score(np.equal(truths, value), chances[known, value])
        assert curve["auc"]["estimate"] == pytest.approx(expected, abs=0.03)
    for row, image in enumerate(multitask.images):
        written = [float(image[f"probability_{name}"]) for name in names]
        assert written == pytest.approx(chances[row], abs=1e-4)


def test_a_network_without_labels_has_no_label_scores(deep_resnet: Judged) -> None:
    assert deep_resnet.numbers["labels"] is None
    assert deep_resnet.numbers["label_rocs"] == []
    assert "probability_benign" not in deep_resnet.images[0]
