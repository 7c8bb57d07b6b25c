"""Single queries of a run to look at: pixels, truth, prediction, and the support set they were segmented by."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as Typed
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from episodes.errors import DatasetError, UserError, in_short
from episodes.images.decoding import read_image
from episodes.io.files import write_text
from episodes.io.yaml_json import read_json
from fewshot.results.pictures import write_mask, write_picture

GALLERY = "gallery"
INDEX = "gallery.json"

Why = Literal["worst", "median", "best", "false lesion"]


@dataclass(frozen=True, slots=True)
class Annotated:
    """An image and its lesion.

    Attributes:
        id: of the record.
        image: grey levels, (H, W).
        mask: where the lesion is, (H, W).
    """

    id: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class GalleryCase:
    """One query as one method segmented it.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images.
        draw: number of the support draw; -1 where there is none.
        why: what it is an example of.
        label: of the query.
        dice: of the prediction; None for an image without a lesion.
        query: with its true lesion.
        prediction: where the method sees a lesion, (H, W).
        supports: the support set, with the masks that the method was shown; empty without one.
    """

    target: str
    method: str
    seed: int
    shot: int
    draw: int
    why: Why
    label: str
    dice: float | None
    query: Annotated
    prediction: NDArray[np.bool_]
    supports: tuple[Annotated, ...] = ()


_FACTS = ("target", "method", "seed", "shot", "draw", "why", "label", "dice")


def write_gallery(folder: Path, cases: Sequence[GalleryCase]) -> Path:
    """Write cases as PNG files into `gallery/` of a run's folder, and `gallery.json`, which names them, last.

    Returns:
        The index.
    """
    root, seen = folder / GALLERY, dict[tuple[str, bytes], dict[str, str]]()
    entries: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        prediction = f"{number:03d}-prediction.png"
        write_mask(root / prediction, case.prediction)
        pictures = {"query": _write_annotated(root, case.query, seen), "prediction": prediction}
        supports = [_write_annotated(root, support, seen) for support in case.supports]
        entries.append({name: getattr(case, name) for name in _FACTS} | pictures | {"supports": supports})
    write_text(root / INDEX, json.dumps(entries, indent=1) + "\n")
    return root / INDEX


def read_gallery(folder: Path) -> list[GalleryCase]:
    """The cases of a run's folder; none of a run without a gallery.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / GALLERY / INDEX
    if not path.is_file():
        return []
    try:
        return [_read_case(path.parent, entry) for entry in _ENTRIES.validate_python(read_json(path))]
    except (OSError, ValueError, DatasetError) as error:
        reason = in_short(error)
        raise UserError(f"{path}: damaged ({reason}); delete its folder, and run the benchmark again") from error


def _write_annotated(root: Path, shown: Annotated, seen: dict[tuple[str, bytes], dict[str, str]]) -> dict[str, str]:
    """Write an image and its mask, each image once: a support image serves many cases."""
    key = shown.id, shown.mask.tobytes()
    if key not in seen:
        name = f"image-{len(seen):03d}"
        seen[key] = {"id": shown.id, "image": f"{name}.png", "mask": f"{name}-mask.png"}
        write_picture(root / f"{name}.png", shown.image)
        write_mask(root / f"{name}-mask.png", shown.mask)
    return seen[key]


_FileName = Typed[str, Field(pattern=r"^[a-z0-9-]+\.png$")]  # never a path: a run may be another's


class _Shown(TypedDict):
    """An image and its mask in the index."""

    id: str
    image: _FileName
    mask: _FileName


class _Entry(TypedDict):
    """A case in the index."""

    target: str
    method: str
    seed: int
    shot: int
    draw: int
    why: Why
    label: str
    dice: float | None
    query: _Shown
    prediction: _FileName
    supports: list[_Shown]


_ENTRIES = TypeAdapter(list[_Entry])


def _read_case(root: Path, entry: _Entry) -> GalleryCase:
    shown = {"query", "prediction", "supports"}
    facts: dict[str, Any] = {name: value for name, value in entry.items() if name not in shown}
    return GalleryCase(
        **facts,
        query=_read_annotated(root, entry["query"]),
        prediction=read_image(root / entry["prediction"]) > 0,
        supports=tuple(_read_annotated(root, support) for support in entry["supports"]),
    )


def _read_annotated(root: Path, shown: _Shown) -> Annotated:
    image = read_image(root / shown["image"]).copy()  # writable, as the one that was written
    return Annotated(shown["id"], image, read_image(root / shown["mask"]) > 0)
