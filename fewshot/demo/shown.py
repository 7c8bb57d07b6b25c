"""What the page is told and shown of images and masks."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.decoding import read_image, stretch_image, stretch_labels
from episodes.metrics import Spacing
from fewshot.demo.answers import Answer
from fewshot.demo.pictures import heat_png, shown_size
from fewshot.demo.stored_image import StoredImage
from fewshot.prediction.confidence import mask_facts, warnings_of
from fewshot.prediction.pictures import png
from fewshot.report.figures.outlines import outline

# Of outlines and heat maps, whose detail is that of the working size.
DRAWN = 1024

Json = dict[str, Any]


def image_json(image: StoredImage) -> Json:
    """An image that was taken in; `shown` is the [width, height] of its picture."""
    return {
        "id": image.id,
        "name": image.name,
        "size": list(image.size[::-1]),
        "shown": list(shown_size(image.size)[::-1]),
    }


def image_png(image: StoredImage) -> bytes:
    """An image's picture."""
    size = shown_size(image.size)
    return image.path.read_bytes() if size == image.size else png(stretch_image(read_image(image.path), size))


def outline_json(mask: NDArray[np.bool_]) -> Json:
    """The border of a mask (H, W): an SVG path, and the [width, height] of the box that it lies in."""
    size = shown_size((mask.shape[0], mask.shape[1]), DRAWN)
    drawn = stretch_labels(mask.astype(np.uint8), size) > 0
    return {"path": outline(drawn), "box": list(size[::-1])}


def answer_json(answer: Answer, shots: int, spacing: Spacing | None = None) -> Json:
    """A mask and what is known of it."""
    found = answer.found
    facts = mask_facts(found.mask, found.probability)
    sure = facts.lesion_confidence
    return {
        "shots": shots,
        "outline": outline_json(found.mask),
        "area": facts.area,
        "area_mm2": None if spacing is None else facts.area * spacing[0] * spacing[1],
        "coverage": facts.coverage,
        "components": facts.components,
        "confidence": None if math.isnan(sure) else sure,
        "labels": dict(found.labels),
        "flags": warnings_of(facts, found.novelty),
    }


def heat(answer: Answer) -> bytes:
    """The probabilities of an answer as a picture to lay over the image's."""
    probability = answer.found.probability
    size = shown_size((probability.shape[0], probability.shape[1]), DRAWN)
    return heat_png(stretch_image(np.round(probability * 255).astype(np.uint8), size))
