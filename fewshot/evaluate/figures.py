"""An assessment's figures: curves, confusion, calibration, and images to look at."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from episodes.records import Record
from episodes.storage.store import Store
from fewshot.devices import batched, default_batch_size
from fewshot.evaluate.scores import Assessment, ImageResult
from fewshot.inference.loading import LoadedMethod
from fewshot.inference.predictor import EnsemblePrediction, Predictor
from fewshot.plots.curves import confusion_figure, reliability_figure, roc_figure
from fewshot.plots.images import Case, cases_figure
from fewshot.plots.training import history_figure
from fewshot.results.history import METRICS, read_history

# Of the worst, the median and the best lesion images, and of the normal images with the largest false lesion.
CASES_OF_A_KIND = 2


def write_figures(folder: Path, assessment: Assessment, members: Sequence[LoadedMethod]) -> None:
    """Draw ROC curves, calibration, the confusion matrix and, where a training left its metrics, its curves."""
    roc_figure(folder / "roc_pixels.png", {"lesion": assessment.roc, **assessment.class_rocs})
    reliability_figure(folder / "calibration.png", assessment.reliability)
    if assessment.labels is not None:
        names = [one.name for one in assessment.labels.classes]
        confusion_figure(folder / "confusion.png", np.array(assessment.labels.confusion), names)
        roc_figure(folder / "roc_images.png", {one.name: one for one in assessment.label_rocs})
    for place, member in enumerate(members, start=1):
        metrics = None if member.path is None else member.path.parent / METRICS
        if metrics is not None and metrics.is_file():
            name = "training.png" if len(members) == 1 else f"training_{place}.png"
            history_figure(folder / name, read_history(metrics), kept_step=member.facts.get("kept_step"))


def write_cases(folder: Path, images: Sequence[ImageResult], predictor: Predictor, store: Store) -> None:
    """Draw the worst, the median and the best lesion images, and normals with the largest false lesions.

    The images, in the order in which they were predicted, are predicted once more from the store's pixels.
    """
    chosen = dict(chosen_cases(images))
    if not chosen:
        return
    rows = {record.id: row for row, record in enumerate(store.records)}

    def case(record: Record, prediction: EnsemblePrediction) -> Case:
        return Case(
            title=chosen[record.id],
            name=record.id,
            image=np.asarray(store.images[rows[record.id]]),
            truth=np.asarray(store.label_maps[rows[record.id]]) > 0,
            prediction=prediction.mask,
            probability=prediction.lesion,
            uncertainty=prediction.entropy if prediction.n_predictions > 1 else None,
        )

    drawn: dict[str, Case] = {}
    for batch, predictions in predictor.predict_records(store, _in_whole_batches(images, chosen, predictor.device)):
        found = zip(batch, predictions, strict=True)
        drawn |= {record.id: case(record, prediction) for record, prediction in found if record.id in chosen}
    cases_figure(folder / "cases.png", [drawn[record_id] for record_id in chosen])


def _in_whole_batches(images: Sequence[ImageResult], chosen: Container[str], device: torch.device) -> list[Record]:
    """Return the chosen images with the rest of their batches: dropout depends on an image's place in its batch."""
    batches = (
        [images[place].record for place in batch] for batch in batched(range(len(images)), default_batch_size(device))
    )
    return [record for batch in batches if any(one.id in chosen for one in batch) for record in batch]


def chosen_cases(images: Sequence[ImageResult], count: int = CASES_OF_A_KIND) -> Iterator[tuple[str, str]]:
    """Yield ids and titles of the images to look at: by Dice of the lesions, by area of false ones."""
    by_dice = sorted((image for image in images if image.shows_lesion), key=lambda image: image.scores.dice)
    middle = max(0, (len(by_dice) - count) // 2)
    kinds = {"best": by_dice[::-1][:count], "median": by_dice[middle : middle + count], "worst": by_dice[:count]}
    for kind, of_kind in kinds.items():
        yield from ((image.record.id, f"{kind} {image.scores.dice:.2f}") for image in of_kind)
    normals = [image for image in images if image.scores.false_positive_area > 0]
    for image in sorted(normals, key=lambda image: image.scores.false_positive_area, reverse=True)[:count]:
        yield image.record.id, f"normal, {image.scores.false_positive_area:.0%} marked"
