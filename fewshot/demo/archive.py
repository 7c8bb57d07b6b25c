"""Everything that a session has come to, as one ZIP file."""

import csv
import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from fewshot import __version__
from fewshot.demo.answers import Answers
from fewshot.demo.choices import Choice
from fewshot.demo.stored_image import StoredImage
from fewshot.prediction.inputs import Input
from fewshot.prediction.pictures import mask_png, overlay, png, probability_png
from fewshot.prediction.results import Case, row_of
from fewshot.prediction.table import COLUMNS, Row

# A ZIP knows no time before 1980; a fixed one makes the same content the same file.
_TIME = (1980, 1, 1, 0, 0, 0)


def write_archive(
    path: Path, choice: Choice, supports: Sequence[StoredImage], queries: Sequence[StoredImage], answers: Answers
) -> None:
    """Write the masks of all queries, and the support set from which the command line makes the same masks.

    Args:
        path: the file.
        choice: the method.
        supports: painted images; those that the method does not use are left in, they are the user's work.
        queries: images to segment.
        answers: of the session.
    """
    rows = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for place, (support, stem) in enumerate(zip(supports, stems(supports), strict=True), start=1):
            # Numbered, as folders are read in the order of names.
            name = f"{place:02d}-{stem}.png"
            _add(archive, f"support/images/{name}", support.path.read_bytes())
            _add(archive, f"support/masks/{name}", support.mask.read_bytes() if support.mask else b"")
        for query, stem in zip(queries, stems(queries), strict=True):
            answer = answers.answer(choice, supports, query)
            found = answer.found
            _add(archive, f"masks/{stem}.png", mask_png(found.mask, found.label_map))
            _add(archive, f"probabilities/{stem}.png", probability_png(found.probability))
            _add(archive, f"overlays/{stem}.png", png(overlay(answer.image, found.mask, found.label_map)))
            rows.append(
                row_of(Case(Input(query.path, None, query.name, stem), answer.image, query.spacing, None, ""), found)
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


def _about(choice: Choice, n_supports: int) -> str:
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
