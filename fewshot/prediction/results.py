"""The results of one image: its pictures, and its row of the table."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from episodes.decoding import stretch_labels
from episodes.files import write_bytes
from episodes.metrics import Spacing, dice
from fewshot.benchmark.judging import judge
from fewshot.prediction.confidence import mask_facts, warnings_of
from fewshot.prediction.inputs import Input
from fewshot.prediction.pictures import mask_png, overlay, png, probability_png
from fewshot.prediction.predicted import Predicted
from fewshot.prediction.table import Row, number


@dataclass(frozen=True, slots=True)
class Case:
    """An image as it was read.

    Attributes:
        input: which.
        image: grey values, (H, W).
        spacing: millimetres from pixel to pixel (row, column), where known.
        truth: where its lesions are known to be, (H, W); None where that is not known.
        inputs: a hash of all that this was read from.
    """

    input: Input
    image: NDArray[np.uint8]
    spacing: Spacing | None
    truth: NDArray[np.bool_] | None
    inputs: str


def picture_paths(name: str, *, npy: bool) -> tuple[Path, Path, Path]:
    """Where the mask, the probabilities and the overlay of an image lie within the folder of results."""
    probabilities = Path("probabilities", f"{name}.{'npy' if npy else 'png'}")
    return Path("masks", f"{name}.png"), probabilities, Path("overlays", f"{name}.png")


def write_pictures(folder: Path, case: Case, found: Predicted, *, npy: bool) -> None:
    """Write mask, probabilities and overlay of an image, each whole.

    Raises:
        StorageError: if one cannot be written.
    """
    contents = (
        mask_png(found.mask, found.label_map),
        _npy(found.probability) if npy else probability_png(found.probability),
        png(overlay(case.image, found.mask, found.label_map)),
    )
    for path, content in zip(picture_paths(case.input.name, npy=npy), contents, strict=True):
        write_bytes(folder / path, content)


def row_of(case: Case, found: Predicted) -> Row:
    """The row of an image."""
    height, width = case.image.shape
    facts = mask_facts(found.mask, found.probability)
    flags = warnings_of(facts, found.novelty)
    area = None if case.spacing is None else facts.area * case.spacing[0] * case.spacing[1]
    return {
        "image": case.input.image,
        "frame": "" if case.input.frame is None else str(case.input.frame),
        "mask": picture_paths(case.input.name, npy=False)[0].as_posix(),
        "width": str(width),
        "height": str(height),
        "area_px": str(facts.area),
        "area_mm2": number(area, 3),
        "components": str(facts.components),
        "coverage": number(facts.coverage),
        "mean_confidence": number(facts.mean_confidence),
        "lesion_confidence": number(facts.lesion_confidence),
        "novelty": number(found.novelty, 3),
        **{f"p_{label}": number(found.labels.get(label)) for label in ("normal", "benign", "malignant")},
        "dice": number(_working_dice(case, found)),
        "dice_full": number(None if case.truth is None else dice(found.mask, case.truth)),
        "flags": " ".join(flags),
        "reason": "; ".join(flags.values()),
        "inputs": case.inputs,
    }


def _working_dice(case: Case, found: Predicted) -> float | None:
    """As the benchmark scores it: at the working size."""
    if case.truth is None:
        return None
    size = found.working.mask.shape
    truth = stretch_labels(case.truth.astype(np.uint8), (size[0], size[1])) > 0
    return judge(found.working.mask, truth).scores.dice


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
