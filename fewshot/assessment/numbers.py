"""An assessment's numbers, as JSON, CSV and Markdown."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from episodes.files import write_text
from episodes.statistics import Interval
from fewshot.assessment.inference import ImageResult
from fewshot.assessment.scores import Assessment
from fewshot.report.markdown import table_lines
from fewshot.results.summary import show, without_nan
from fewshot.results.table import SCORES

EMPTY_AS_ONE = "Dice if empty = 1"
NUMBERS = "evaluation.json"

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header and rows."""


def write_numbers(
    folder: Path, assessment: Assessment, images: Sequence[ImageResult], about: Mapping[str, Any]
) -> None:
    """Write `evaluation.json`, every score; `images.csv`, every image's; and `evaluation.md`, the table.

    Args:
        folder: to write into.
        assessment: the scores.
        images: theirs.
        about: what was judged, for the head of each file.
    """
    content = without_nan({**about, **asdict(assessment)})
    write_text(folder / NUMBERS, json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "images.csv", _images_csv(images))
    write_text(folder / "evaluation.md", markdown(assessment, about))


def _images_csv(images: Sequence[ImageResult]) -> str:
    text = io.StringIO()
    labels = list(images[0].label_probabilities)
    writer = csv.writer(text, lineterminator="\n")
    probabilities = [f"probability_{label}" for label in labels]
    writer.writerow(["image", "patient", "label", "lesion", *SCORES, *probabilities, "entropy", "disagreement"])
    for image in images:
        scores = ["" if np.isnan(value) else value for value in asdict(image.scores).values()]
        facts = [image.record.id, image.record.patient_id, image.record.label, int(image.shows_lesion)]
        chances = [image.label_probabilities[label] for label in labels]
        writer.writerow([*facts, *scores, *chances, image.entropy, image.disagreement])
    return text.getvalue()


def markdown(assessment: Assessment, about: Mapping[str, Any]) -> str:
    """The scores as Markdown tables."""
    counts = f"{assessment.n_lesion} lesion and {assessment.n_normal} normal images of {assessment.n_patients}"
    lines = [
        f"{about['dataset']}: {counts} patients; 95 % intervals over patients.",
        "",
        *table_lines(("score", "value"), _headline(assessment), words={0}),
    ]
    for header, rows in (_classes(assessment), _labels(assessment)):
        lines += ["", *table_lines(header, rows, words={0})] if rows else []
    return "\n".join(lines) + "\n"


def _classes(assessment: Assessment) -> Table:
    names = ("dice", "sensitivity", "specificity", "precision", "f1", "dice_empty_as_one")
    header = ("pixels of", "images", "Dice", "sensitivity", "specificity", "precision", "F1", EMPTY_AS_ONE, "AUC")
    aucs = {name: curve.auc for name, curve in assessment.class_rocs.items()}
    return header, [
        [one.name, str(one.n_images), *(_shown(getattr(one, name)) for name in names), _number(aucs[one.name])]
        for one in assessment.classes
    ]


def _labels(assessment: Assessment) -> Table:
    names = ("precision", "recall", "specificity", "f1")
    header = ("image label", "images", "precision", "recall", "specificity", "F1", "AUC")
    aucs = {one.name: one.auc for one in assessment.label_rocs}
    return header, [
        [one.name, str(one.n_images), *(_shown(getattr(one, name)) for name in names), _shown(aucs[one.name])]
        for one in (assessment.labels.classes if assessment.labels else ())
    ]


def _headline(assessment: Assessment) -> list[list[str]]:
    lesion, normal, pixels = assessment.lesion, assessment.normal, assessment.pixels
    rows = [
        ["**lesion Dice**, mean over lesion images", f"**{_shown(lesion['dice'])}**"],
        ["IoU", _shown(lesion["iou"])],
        ["precision", _shown(lesion["precision"])],
        ["recall", _shown(lesion["recall"])],
        ["found (IoU > 0.5)", _shown(lesion["detected"])],
        ["HD95, pixels", _shown(lesion["hd95"])],
        ["NSD, tolerance 2 pixels", _shown(lesion["nsd"])],
        ["lesion pixels pooled: F1", _shown(pixels.f1)],
        ["lesion pixels pooled: AUC", _number(assessment.roc.auc)],
        ["expected calibration error", _number(assessment.reliability.expected_calibration_error)],
        [f"for comparison with published code: {EMPTY_AS_ONE}, all images", _shown(pixels.dice_empty_as_one)],
        ["for comparison: share of right pixels", _number(assessment.pixel_accuracy)],
    ]
    if assessment.n_normal:
        rows.insert(7, ["normals with a false lesion", _shown(normal["false_positive"])])
    if assessment.labels is not None:
        rows.append(["accuracy of image labels", _shown(assessment.labels.accuracy)])
        rows.append(["macro F1 of image labels", _shown(assessment.labels.macro_f1)])
    return rows


def _shown(interval: Interval) -> str:
    """An interval as far as it is defined: one patient has a score without one."""
    if math.isnan(interval.estimate):
        return "undefined"
    return f"{interval.estimate:.3f}" if math.isnan(interval.low) else show(interval)


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
