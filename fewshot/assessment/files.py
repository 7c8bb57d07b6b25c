"""What an assessment leaves behind: numbers as JSON, CSV and Markdown, figures as PNG."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.class_scores import ClassRoc
from episodes.files import write_text
from episodes.probability_histogram import RocCurve
from episodes.records import Record
from episodes.store import Store
from fewshot.assessment.inference import ImageResult, Maps, Predicted, predict_records
from fewshot.assessment.subject import Member
from fewshot.assessment.summary import Assessment
from fewshot.figures import cases, curves, reliability, training
from fewshot.history import read_history
from fewshot.results import SCORES
from fewshot.summary import show, without_nan

# Of the worst, the median and the best lesion images, and of the normal images with the largest false lesion.
CASES_OF_A_KIND = 2


def write_numbers(folder: Path, assessment: Assessment, predicted: Predicted, about: Mapping[str, Any]) -> None:
    """Write `evaluation.json`, every score; `images.csv`, every image's; and `evaluation.md`, the table.

    Args:
        folder: to write into.
        assessment: the scores.
        predicted: the images'.
        about: what was judged, for the head of each file.
    """
    content = without_nan({**about, **asdict(assessment)})
    write_text(folder / "evaluation.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "images.csv", _images_csv(predicted.images))
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
        *_table(("score", "value"), _headline(assessment)),
    ]
    if assessment.classes:
        names = ("dice", "sensitivity", "specificity", "precision", "f1", "dice_empty_as_one")
        rows = [
            [one.name, str(one.n_images), *(show(getattr(one, name)) for name in names), _auc(assessment, one.name)]
            for one in assessment.classes
        ]
        header = ("pixels of", "images", "Dice", "sensitivity", "specificity", "precision", "F1", EMPTY_AS_ONE, "AUC")
        lines += ["", *_table(header, rows)]
    if assessment.labels is not None:
        rocs = {one.name: one.auc for one in assessment.label_rocs}
        rows = [
            [one.name, str(one.n_images), show(one.precision), show(one.recall), show(one.f1), show(rocs[one.name])]
            for one in assessment.labels.classes
        ]
        lines += ["", *_table(("image label", "images", "precision", "recall", "F1", "AUC"), rows)]
    return "\n".join(lines) + "\n"


EMPTY_AS_ONE = "Dice if empty = 1"


def _headline(assessment: Assessment) -> list[list[str]]:
    lesion, normal, pixels = assessment.lesion, assessment.normal, assessment.pixels
    rows = [
        ["**lesion Dice**, mean over lesion images", f"**{show(lesion['dice'])}**"],
        ["IoU", show(lesion["iou"])],
        ["precision", show(lesion["precision"])],
        ["recall", show(lesion["recall"])],
        ["found (IoU > 0.5)", show(lesion["detected"])],
        ["HD95, pixels", show(lesion["hd95"])],
        ["NSD, tolerance 2 pixels", show(lesion["nsd"])],
        ["lesion pixels pooled: F1", show(pixels.f1)],
        ["lesion pixels pooled: AUC", f"{assessment.roc.auc:.3f}"],
        ["expected calibration error", f"{assessment.reliability.expected_calibration_error:.3f}"],
        [f"for comparison with published code: {EMPTY_AS_ONE}, all images", show(pixels.dice_empty_as_one)],
        ["for comparison: share of right pixels", f"{assessment.pixel_accuracy:.3f}"],
    ]
    if assessment.n_normal:
        rows.insert(7, ["normals with a false lesion", show(normal["false_positive"])])
    if assessment.labels is not None:
        rows.append(["accuracy of image labels", show(assessment.labels.accuracy)])
        rows.append(["macro F1 of image labels", show(assessment.labels.macro_f1)])
    return rows


def _auc(assessment: Assessment, name: str) -> str:
    return f"{assessment.class_rocs[name].auc:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|:---" + "|---:" * (len(header) - 1) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def write_figures(folder: Path, assessment: Assessment, members: Sequence[Member]) -> None:
    """Draw ROC curves, calibration, the confusion matrix and, where a training left its metrics, its curves."""
    by_class = {"lesion": assessment.roc, **assessment.class_rocs}
    curves.roc_figure(folder / "roc_pixels.png", [_pixel_curve(name, curve) for name, curve in by_class.items()])
    found = assessment.reliability
    reliability.reliability_figure(
        folder / "calibration.png",
        edges=np.linspace(0, 1, len(found.counts) + 1),
        predicted=np.array(found.mean_confidences),
        observed=np.array(found.observed_frequencies),
        counts=np.array(found.counts),
        ece=found.expected_calibration_error,
    )
    if assessment.labels is not None:
        names = [one.name for one in assessment.labels.classes]
        curves.confusion_figure(folder / "confusion.png", np.array(assessment.labels.confusion), names)
        curves.roc_figure(folder / "roc_images.png", [_image_curve(one) for one in assessment.label_rocs])
    for place, member in enumerate(members, start=1):
        metrics = member.path.parent / "metrics.jsonl"
        if metrics.is_file():
            name = "training.png" if len(members) == 1 else f"training_{place}.png"
            training.history_figure(folder / name, read_history(metrics), kept_step=member.facts.get("kept_step"))


def _pixel_curve(name: str, found: RocCurve) -> curves.RocCurve:
    return curves.RocCurve(name, np.array(found.false_positive_rates), np.array(found.true_positive_rates), found.auc)


def _image_curve(found: ClassRoc) -> curves.RocCurve:
    return curves.RocCurve(
        found.name,
        np.array(found.false_positive_rates),
        np.array(found.true_positive_rates),
        found.auc.estimate,
        (found.auc.low, found.auc.high),
    )


def write_cases(
    folder: Path, predicted: Predicted, members: Sequence[Member], store: Store, device: torch.device
) -> None:
    """Draw the worst, the median and the best lesion images, and normals with the largest false lesions."""
    chosen = dict(chosen_cases(predicted.images))
    if not chosen:
        return
    records = [record for record in store.records if record.id in chosen]
    rows = {record.id: row for row, record in enumerate(store.records)}
    drawn: dict[str, cases.Case] = {}
    several = any(image.disagreement > 0 for image in predicted.images)

    def draw(record: Record, maps: Maps) -> None:
        drawn[record.id] = cases.Case(
            title=chosen[record.id],
            name=record.id,
            image=np.asarray(store.images[rows[record.id]]),
            truth=np.asarray(store.label_maps[rows[record.id]]) > 0,
            prediction=maps.mask,
            probability=maps.probability,
            uncertainty=maps.entropy if several else None,
        )

    predict_records(members, store, records, device, on_image=draw)
    cases.cases_figure(folder / "cases.png", [drawn[record_id] for record_id in chosen])


def chosen_cases(images: Sequence[ImageResult], count: int = CASES_OF_A_KIND) -> Iterator[tuple[str, str]]:
    """Ids and titles of the images to look at: by Dice of the lesions, by area of false ones."""
    by_dice = sorted((image for image in images if image.shows_lesion), key=lambda image: image.scores.dice)
    middle = max(0, (len(by_dice) - count) // 2)
    kinds = {"best": by_dice[::-1][:count], "median": by_dice[middle : middle + count], "worst": by_dice[:count]}
    for kind, of_kind in kinds.items():
        yield from ((image.record.id, f"{kind} {image.scores.dice:.2f}") for image in of_kind)
    normals = [image for image in images if image.scores.false_positive_area > 0]
    for image in sorted(normals, key=_false_area)[:count]:
        yield image.record.id, f"normal, {image.scores.false_positive_area:.0%} marked"


def _false_area(image: ImageResult) -> float:
    return -image.scores.false_positive_area
