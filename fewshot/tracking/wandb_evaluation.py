"""An evaluation in wandb: headline scores with intervals, every image's scores, figures and masks."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from episodes.store import Store
from fewshot.assessment.figures import chosen_cases
from fewshot.assessment.inference import ImageResult
from fewshot.assessment.scores import Assessment
from fewshot.config import Tracking
from fewshot.results.summary import interval_columns
from fewshot.tracking.wandb_offline import say_what_waits
from fewshot.tracking.wandb_run import RunFacts, digest, wandb_run
from fewshot.tracking.wandb_values import DICE, data_table, overlay

if TYPE_CHECKING:
    import wandb

_TEXT = ("image", "patient", "label")


def log_evaluation(
    tracking: Tracking,
    out: Path,
    about: Mapping[str, Any],
    assessment: Assessment,
    images: Sequence[ImageResult],
    store: Store,
) -> None:
    """Log an evaluation's folder.

    Args:
        tracking: `local` does nothing.
        out: the folder, with all its files.
        about: what was judged.
        assessment: its scores.
        images: every image's.
        store: holds their pixels.
    """
    if tracking != "wandb":
        return
    scores = headline_scores(assessment)
    facts = RunFacts(digest("evaluate", about, scores), out.name, str(about["dataset"]), "evaluate", dict(about))
    with wandb_run(out, facts) as run:
        run.summarise(scores)
        run.do(lambda made: made.log(_tables_and_pictures(out, images, store)))
    if run.complete:
        say_what_waits(out)


def headline_scores(assessment: Assessment) -> dict[str, float]:
    """The scores by name; the ends of an interval as `NAME_low` and `NAME_high`, and `lesion_dice` for the Dice."""
    intervals = {DICE if name == "dice" else name: value for name, value in assessment.lesion.items()}
    intervals |= assessment.normal
    intervals |= {"pixels_f1": assessment.pixels.f1, "dice_empty_as_one": assessment.pixels.dice_empty_as_one}
    if assessment.labels is not None:
        intervals |= {"label_accuracy": assessment.labels.accuracy, "label_macro_f1": assessment.labels.macro_f1}
    scores = {
        "pixels_auc": assessment.roc.auc,
        "calibration_error": assessment.reliability.expected_calibration_error,
        "pixel_accuracy": assessment.pixel_accuracy,
        "n_lesion": assessment.n_lesion,
        "n_normal": assessment.n_normal,
        "n_patients": assessment.n_patients,
        **assessment.uncertainty,
    }
    for name, interval in intervals.items():
        scores |= interval_columns(name, interval)
    return scores


def _tables_and_pictures(out: Path, images: Sequence[ImageResult], store: Store) -> dict[str, Any]:
    """The folder's table of images, its figures, and the cases of `cases.png`, if there are any."""
    import wandb

    with (out / "images.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    types = {name: str if name in _TEXT else float for name in header}
    values = [[_value(types[name], text) for name, text in zip(header, row, strict=True)] for row in rows]
    figures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(out.glob("*.png"))}
    cases = _overlays(out, images, store)
    return {"images": data_table(types, values), **figures, **({"cases": cases} if cases else {})}


def _value(kind: type, text: str) -> Any:
    return kind(text) if text else None


def _overlays(out: Path, images: Sequence[ImageResult], store: Store) -> list["wandb.Image"]:
    """The images that the figure `cases.png` shows."""
    rows = {record.id: row for row, record in enumerate(store.records)}
    names = {image.record.id: image.record.stem for image in images}
    found = []
    for record_id, title in chosen_cases(images):
        with Image.open(out / "masks" / f"{names[record_id]}.png") as picture:
            prediction = np.asarray(picture) > 0
        image = np.asarray(store.images[rows[record_id]])
        truth = np.asarray(store.label_maps[rows[record_id]]) > 0
        found.append(overlay(image, truth, prediction, f"{record_id}: {title}"))
    return found
