"""Scores of an evaluation, and the files they are written to."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from baselines.prediction import UNKNOWN
from episodes.io.files import csv_text, write_text
from episodes.records import LABEL_VALUES, Record
from episodes.scoring.class_scores import (
    ClassScores,
    LabelRoc,
    LabelScores,
    class_scores,
    count_pixels,
    label_rocs,
    label_scores,
)
from episodes.scoring.curves import ProbabilityHistogram, Reliability, RocCurve
from episodes.scoring.mask_scores import Scores, score
from episodes.scoring.statistics import FEW_PATIENTS, Interval, crossed_bootstrap
from fewshot.inference.predictor import KINDS, EnsemblePrediction
from fewshot.results.numbers import DEFINED, counted
from fewshot.results.rows import SCORES
from fewshot.results.summary import LESION_SCORES, NORMAL_SCORES, without_nan
from fewshot.results.tables import Table

CLASS_VALUES: Mapping[str, int] = {kind: LABEL_VALUES[kind] for kind in KINDS}  # type: ignore[index]


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's scores."""

    record: Record  # the image
    shows_lesion: bool  # whether its label map has one
    scores: Scores  # of the lesion mask
    lesion_counts: NDArray[np.int64]  # pixels of lesion, (1, 4), as `count_pixels` counts
    # Of the classes, (n_classes, 4); None where a lesion's kind is unknown, or there is one class.
    class_counts: NDArray[np.int64] | None
    label_probabilities: Mapping[str, float]  # by label, of a network that gives any
    entropy: float  # mean over the image, in bits
    disagreement: float  # likewise


@dataclass(frozen=True, slots=True)
class Results:
    """A dataset's results."""

    classes: tuple[str, ...]  # that the masks tell apart, background aside
    labels: tuple[str, ...] = ()  # that the images were given
    images: list[ImageResult] = field(default_factory=list)  # in the order in which they were added
    # Of every pixel's lesion probability.
    lesion_histogram: ProbabilityHistogram = field(default_factory=ProbabilityHistogram)
    # By class, where there are several, of images whose lesions' kind is known.
    class_histograms: dict[str, ProbabilityHistogram] = field(default_factory=dict)

    def add(self, record: Record, prediction: EnsemblePrediction, truth: NDArray[np.uint8]) -> None:
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

    def _class_counts(self, prediction: EnsemblePrediction, truth: NDArray[np.uint8]) -> NDArray[np.int64]:
        channels = np.zeros(len(LABEL_VALUES), np.uint8)  # by value of a label map
        for channel, name in enumerate(self.classes, start=1):
            channels[CLASS_VALUES[name]] = channel
        return count_pixels(prediction.class_map, channels[truth], len(self.classes))


@dataclass(frozen=True, slots=True)
class Assessment:
    """All scores of checkpoints on one dataset; intervals are over patients, 95 %, within their bounds."""

    n_images: int  # judged
    n_patients: int  # they are of
    n_lesion: int  # images that show a lesion
    n_lesion_patients: int  # they are of
    n_normal: int  # images that do not
    n_normal_patients: int  # they are of
    # Dice, IoU, precision, recall, HD95, NSD and share detected, means over the lesion images.
    lesion: dict[str, Interval]
    normal: dict[str, Interval]  # false-positive rate and area, means over the normal images
    pixels: ClassScores  # lesion pixels pooled over all images, with the mean Dice of published code beside ours
    pixel_accuracy: float  # share of right pixels; mostly that of background
    roc: RocCurve  # of lesion pixels
    reliability: Reliability  # of their probabilities
    # Benign and malignant pixels, of a network that tells them apart, over images whose lesions' kind is known; empty
    # where no lesion's is.
    classes: tuple[ClassScores, ...] = ()
    class_rocs: dict[str, RocCurve] = field(default_factory=dict)  # likewise, by class
    # Whole images, of a network that names them, over images that have one of its labels.
    labels: LabelScores | None = None
    label_rocs: tuple[LabelRoc, ...] = ()  # likewise, by label
    # Mean entropy and disagreement in bits, and how they rank with failure: Spearman's correlation with 1 - Dice over
    # the lesion images.
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
    labels, rocs_of_labels = _label_scores(images, results.labels)
    return Assessment(
        n_images=len(images),
        n_patients=len(set(_patients(images))),
        n_lesion=len(lesions),
        n_lesion_patients=len(set(_patients(lesions))),
        n_normal=len(normals),
        n_normal_patients=len(set(_patients(normals))),
        lesion={name: _mean(lesions, name) for name in ("dice", *LESION_SCORES)},
        normal={name: _mean(normals, name) for name in NORMAL_SCORES},
        pixels=class_scores(counts, ("lesion",), _patients(images))[0],
        pixel_accuracy=float((pixels[0] + pixels[3]) / pixels.sum()),
        roc=results.lesion_histogram.roc(),
        reliability=results.lesion_histogram.reliability(),
        classes=by_class,
        class_rocs=rocs,
        labels=labels,
        label_rocs=rocs_of_labels,
        uncertainty=_uncertainty(images, lesions),
    )


def _patients(images: Sequence[ImageResult]) -> list[str]:
    return [image.record.patient_id for image in images]


def _class_scores(images: Sequence[ImageResult], classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """Score the images whose lesions' kind is known; none where these are normal images alone."""
    known = {place: image.class_counts for place, image in enumerate(images) if image.class_counts is not None}
    if not any(images[place].shows_lesion for place in known):
        return ()
    patients = _patients([images[place] for place in known])
    return tuple(class_scores(np.stack(list(known.values())), classes, patients))


def _mean(images: Sequence[ImageResult], score: str) -> Interval:
    if not images:
        return Interval(math.nan, math.nan, math.nan)
    values = np.array([[getattr(image.scores, score) for image in images]])
    # The diagonal, which a missed lesion gets: images are squares.
    most = math.sqrt(2 * images[0].lesion_counts.sum()) if score == "hd95" else 1
    return crossed_bootstrap(values, _patients(images), bounds=(0, most))


def _label_scores(
    images: Sequence[ImageResult], labels: Sequence[str]
) -> tuple[LabelScores | None, tuple[LabelRoc, ...]]:
    """Score the labels of images that have one of a network's labels; there may be none."""
    named = [image for image in images if image.record.label in labels]
    if not named:
        return None, ()
    truths = np.array([labels.index(image.record.label) for image in named])
    probabilities = np.array([[image.label_probabilities[label] for label in labels] for image in named])
    patients = _patients(named)
    scores = label_scores(truths, probabilities.argmax(1), labels, patients)
    return scores, tuple(label_rocs(probabilities, truths, labels, patients))


def _uncertainty(images: Sequence[ImageResult], lesions: Sequence[ImageResult]) -> dict[str, float]:
    failure = [1 - image.scores.dice for image in lesions]
    found: dict[str, float] = {}
    for name in ("entropy", "disagreement"):
        values = [getattr(image, name) for image in lesions]
        found[f"mean_{name}"] = float(np.mean([getattr(image, name) for image in images]))
        ranked = len(set(values)) > 1 and len(set(failure)) > 1
        found[f"{name}_to_failure"] = float(spearmanr(values, failure).statistic) if ranked else math.nan
    return found


EMPTY_AS_ONE = "Dice if empty = 1"
NUMBERS = "evaluation.json"


def write_numbers(
    folder: Path, assessment: Assessment, images: Sequence[ImageResult], about: Mapping[str, Any]
) -> None:
    """Write `evaluation.json`, every score; `images.csv`, every image's; and `evaluation.md`, the table.

    `about` says what was judged, at the head of each file.
    """
    content = without_nan({**about, **asdict(assessment)})
    write_text(folder / NUMBERS, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "images.csv", csv_text(image_table(images)))
    write_text(folder / "evaluation.md", markdown(assessment, about))


def image_table(images: Sequence[ImageResult]) -> list[list[Any]]:
    """Return names of columns, then the facts and scores of each image in a row."""
    labels = list(images[0].label_probabilities)
    probabilities = (f"probability_{label}" for label in labels)
    header = ["image", "patient", "label", "lesion", *SCORES, *probabilities, "entropy", "disagreement"]
    lines: list[list[Any]] = [[*header]]
    for image in images:
        facts = [image.record.id, image.record.patient_id, image.record.label, int(image.shows_lesion)]
        chances = [image.label_probabilities[label] for label in labels]
        lines.append([*facts, *asdict(image.scores).values(), *chances, image.entropy, image.disagreement])
    return lines


def markdown(assessment: Assessment, about: Mapping[str, Any]) -> str:
    """Write the scores as Markdown tables."""
    counts = f"{assessment.n_lesion} lesion and {assessment.n_normal} normal images"
    whose = counted(assessment.n_patients, "patient")
    first = f"{about['dataset']}: {counts} of {whose}; 95 % intervals over patients.\n"
    tables = [_headline(assessment), _classes(assessment), _labels(assessment)]
    return "\n".join([first, *_too_few(assessment), *(table.markdown(raw=True) for table in tables if table.texts)])


def _too_few(assessment: Assessment) -> list[str]:
    """Say which images are of too few patients for their intervals, if any are."""
    counts = {"lesion": assessment.n_lesion_patients, "normal": assessment.n_normal_patients}
    few = [f"{count} with {kind} images" for kind, count in counts.items() if 0 < count < FEW_PATIENTS]
    return [f"Too few patients for these intervals to be relied on: {', '.join(few)}.\n"] if few else []


def _classes(assessment: Assessment) -> Table:
    names = ("dice", "sensitivity", "specificity", "precision", "f1", "dice_empty_as_one")
    headings = ("pixels of", "images", "Dice", "sensitivity", "specificity", "precision", "F1", EMPTY_AS_ONE, "AUC")
    texts = [
        [*_class_texts(one, names), DEFINED.number(assessment.class_rocs[one.name].auc)] for one in assessment.classes
    ]
    return Table(headings, texts, words=headings[:1])


def _labels(assessment: Assessment) -> Table:
    names = ("precision", "recall", "specificity", "f1")
    headings = ("image label", "images", "precision", "recall", "specificity", "F1", "AUC")
    aucs = {one.name: one.auc for one in assessment.label_rocs}
    found = assessment.labels.classes if assessment.labels else ()
    texts = [[*_class_texts(one, names), DEFINED.interval(aucs[one.name])] for one in found]
    return Table(headings, texts, words=headings[:1])


def _class_texts(one: Any, scores: Sequence[str]) -> list[str]:
    """Return name, number of images and scores of a class of pixels or a label of images."""
    return [one.name, str(one.n_images), *(DEFINED.interval(getattr(one, name)) for name in scores)]


def _headline(assessment: Assessment) -> Table:
    lesion, pixels = assessment.lesion, assessment.pixels
    scores: dict[str, Interval | float] = {
        "**lesion Dice**, mean over lesion images": lesion["dice"],
        "IoU": lesion["iou"],
        "precision": lesion["precision"],
        "recall": lesion["recall"],
        "found (IoU > 0.5)": lesion["detected"],
        "HD95, pixels": lesion["hd95"],
        "NSD, tolerance 2 pixels": lesion["nsd"],
    }
    if assessment.n_normal:
        scores["normals with a false lesion"] = assessment.normal["false_positive"]
    scores |= {
        "lesion pixels pooled: F1": pixels.f1,
        "lesion pixels pooled: AUC": assessment.roc.auc,
        "expected calibration error": assessment.reliability.expected_calibration_error,
        f"for comparison with published code: {EMPTY_AS_ONE}, all images": pixels.dice_empty_as_one,
        "for comparison: share of right pixels": assessment.pixel_accuracy,
    }
    if assessment.labels is not None:
        scores |= {"accuracy of image labels": assessment.labels.accuracy}
        scores |= {"macro F1 of image labels": assessment.labels.macro_f1}
    texts = [
        [name, DEFINED.interval(score) if isinstance(score, Interval) else DEFINED.number(score)]
        for name, score in scores.items()
    ]
    texts[0][1] = f"**{texts[0][1]}**"
    return Table(("score", "value"), texts, words=("score",))
