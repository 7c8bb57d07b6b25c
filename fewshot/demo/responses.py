"""The server's responses: images, masks and predictions as JSON and pictures, and the archive of all results."""

import math
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.images.decoding import read_image, stretch_image, stretch_labels
from episodes.images.regions import outline
from episodes.images.spacing import Spacing
from episodes.names import numbered
from fewshot import __version__
from fewshot.demo.answers import QueryPrediction, SessionPredictions
from fewshot.demo.choices import MethodChoice
from fewshot.demo.images import StoredImage
from fewshot.inference.inputs import Input
from fewshot.predict.cases import ReadImage
from fewshot.predict.results import mask_facts, row_of, table_text, warnings_of
from fewshot.results.pictures import mask_png, overlay_png, png, probability_png

# Pixels along the longer side: larger pictures are shown shrunk, as a phone's canvas holds no more; outlines and heat
# maps have no more detail than the working size.
SHOWN, DRAWN = 2048, 1024

# Vermillion, as in the project's figures (fewshot.plots.images).
LIKELY = (213, 94, 0)

Json = dict[str, Any]


def shown_size(size: tuple[int, ...], longest: int = SHOWN) -> tuple[int, int]:
    """Return the (height, width) at which a picture of this (height, width) is shown.

    >>> shown_size((600, 800)), shown_size((3000, 6000), 1000)
    ((600, 800), (500, 1000))
    """
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def image_json(image: StoredImage) -> Json:
    """Describe an image that was taken in; `shown` is the [width, height] of its picture."""
    return {
        "id": image.id,
        "name": image.name,
        "size": list(image.size[::-1]),
        "shown": list(shown_size(image.size)[::-1]),
        "grey_scale": image.grey_scale,
        "warning": f"{image.name}: a name is written into the picture, its file says" if image.shows_names else None,
    }


def image_png(image: StoredImage) -> bytes:
    """Return the picture that is shown of an image."""
    size = shown_size(image.size)
    return image.path.read_bytes() if size == image.size else png(stretch_image(read_image(image.path), size))


def outline_json(mask: NDArray[np.bool_]) -> Json:
    """Describe the border of a mask (H, W): an SVG path, and the [width, height] of the box that it lies in."""
    size = shown_size(mask.shape, DRAWN)
    return {"path": outline(_stretched(mask, size)), "box": list(size[::-1])}


def shown_mask_png(mask: NDArray[np.bool_]) -> bytes:
    """Encode a mask (H, W) at the size at which its image is shown."""
    return mask_png(_stretched(mask, shown_size(mask.shape)))


def _stretched(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    return stretch_labels(mask.astype(np.uint8), size) > 0


def prediction_json(prediction: QueryPrediction, shots: int, spacing: Spacing | None = None) -> Json:
    """Describe a mask and what is known of it."""
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


def heat_png(probability: NDArray[np.floating]) -> bytes:
    """Draw probabilities (H, W) to lay over an image: a colour covers the more, the more probable the lesion is."""
    cover = stretch_image(np.round(probability * 255).astype(np.uint8), shown_size(probability.shape, DRAWN))
    heat = np.empty((*cover.shape, 4), np.uint8)
    heat[..., :3], heat[..., 3] = LIKELY, cover
    return png(heat)


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

    Painted images that the method does not use are left in, they are the user's work.
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
            _add(archive, f"overlays/{stem}.png", overlay_png(image, found.mask, found.label_map))
            rows.append(
                row_of(ReadImage(Input(query.path, None, query.name, stem), image, query.spacing, None, ""), found)
            )
        _add(archive, "predictions.csv", table_text(rows).encode())
        _add(archive, "README.txt", _about(choice, len(supports)).encode())


def stems(images: Iterable[StoredImage]) -> list[str]:
    """Name files without suffix, no two alike even where case does not count."""
    taken: set[str] = set()
    found = []
    for image in images:
        stem = PurePosixPath(image.name).stem.translate({ord(mark): "_" for mark in '<>:"|?*'}).strip(". ") or "image"
        free = next(name for name in numbered(stem) if name.lower() not in taken)
        taken.add(free.lower())
        found.append(free)
    return found


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.external_attr = 0o644 << 16
    # Pictures are compressed already.
    entry.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def _about(choice: MethodChoice, n_supports: int) -> str:
    support = "--support support" if choice.model.method.uses_support and n_supports else "--shots 0"
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
