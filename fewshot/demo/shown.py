"""What the page shows of a prediction, and the archive that it offers."""

import csv
import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.images.decoding import read_image, stretch_image, stretch_labels
from episodes.images.regions import outline
from episodes.scoring.mask_scores import Spacing
from fewshot import __version__
from fewshot.demo.answers import QueryPrediction, SessionPredictions
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import StoredImage, heat_png, shown_size
from fewshot.inference.inputs import Input
from fewshot.predict.cases import ReadImage
from fewshot.predict.results import COLUMNS, Row, mask_facts, row_of, warnings_of
from fewshot.results.pictures import mask_png, overlay, png, probability_png

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


def prediction_json(prediction: QueryPrediction, shots: int, spacing: Spacing | None = None) -> Json:
    """A mask and what is known of it."""
    found = prediction.found
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


def heat(prediction: QueryPrediction) -> bytes:
    """Draw the probabilities of a prediction as a picture to lay over the image's."""
    probability = prediction.found.probability
    size = shown_size((probability.shape[0], probability.shape[1]), DRAWN)
    return heat_png(stretch_image(np.round(probability * 255).astype(np.uint8), size))


# A ZIP knows no time before 1980; a fixed one makes the same content the same file.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_archive(
    path: Path,
    choice: MethodChoice,
    supports: Sequence[StoredImage],
    queries: Sequence[StoredImage],
    predictions: SessionPredictions,
) -> None:
    """Write the masks of all queries, and the support set from which the command line makes the same masks.

    Args:
        path: the file.
        choice: the method.
        supports: painted images; those that the method does not use are left in, they are the user's work.
        queries: images to segment.
        predictions: of the session.
    """
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for place, (support, stem) in enumerate(zip(supports, stems(supports), strict=True), start=1):
            # Numbered, as folders are read in the order of names.
            name = f"{place:02d}-{stem}.png"
            _add(archive, f"support/images/{name}", support.path.read_bytes())
            _add(archive, f"support/masks/{name}", support.mask.read_bytes() if support.mask else b"")
        for query, stem in zip(queries, stems(queries), strict=True):
            prediction = predictions.predict(choice, supports, query)
            image, found = prediction.image, prediction.found
            _add(archive, f"masks/{stem}.png", mask_png(found.mask, found.label_map))
            _add(archive, f"probabilities/{stem}.png", probability_png(found.probability))
            _add(archive, f"overlays/{stem}.png", png(overlay(image, found.mask, found.label_map)))
            rows.append(
                row_of(ReadImage(Input(query.path, None, query.name, stem), image, query.spacing, None, ""), found)
            )
        _add(archive, "predictions.csv", _table(rows))
        _add(archive, "README.txt", _about(choice, len(supports)).encode())


def stems(images: Iterable[StoredImage]) -> list[str]:
    """File names without suffix, no two alike even where case does not count."""
    taken: set[str] = set()
    found = []
    for image in images:
        stem = PurePosixPath(image.name).stem.translate({ord(mark): "_" for mark in '<>:"|?*'}).strip(". ") or "image"
        free, number = stem, 2
        while free.lower() in taken:
            free, number = f"{stem}-{number}", number + 1
        taken.add(free.lower())
        found.append(free)
    return found


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o644 << 16
    # Pictures are compressed already.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _table(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _about(choice: MethodChoice, n_supports: int) -> str:
    support = "--support support" if choice.method.uses_support and n_supports else "--shots 0"
    return f"""Research only. Not for clinical use.

Made by fewshot-bus {__version__} with the model {choice.title} ({choice.model.name}) and {n_supports} support images.

masks/          where a lesion was found, at each image's own size
probabilities/  of a lesion; 65535 is 1
overlays/       the images with the outlines of the masks
predictions.csv one row per image, as `fewshot predict` writes it
support/        the support images and what was painted on them

The same masks on the command line:

fewshot predict CHECKPOINT --method {choice.model.name} {support} --images FOLDER --out FOLDER
"""
