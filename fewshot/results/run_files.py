"""The files of a run's folder beside its results table: configuration, environment, costs, and a gallery of cases."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Annotated as Typed
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from episodes.errors import DatasetError, UserError, in_short
from episodes.images.decoding import read_image
from episodes.io.files import write_text
from episodes.io.yaml_json import JSONTextError, read_json
from fewshot.results.pictures import write_mask, write_picture

RESULTS = "results.parquet"
CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
COSTS = "costs.json"
GALLERY = "gallery"
GALLERY_INDEX = "gallery.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one row of the table with one training seed."""

    target: str
    method: str  # row of the table
    seed: int  # of the training
    shot: int  # support images; 0 for none
    adapt_seconds: float  # to one support set, mean over draws
    image_seconds: float  # to segment one image, its encoding included, mean over images and draws
    peak_bytes: int | None  # held meanwhile, by the process or on the accelerator; None where it is not known
    parameters: int | None  # None for methods without a network
    training_seconds: float | None  # on the device of the training; None where nothing was trained here
    device: str  # what it was measured on


_COSTS = TypeAdapter(list[Cost])


def write_costs(folder: Path, costs: Sequence[Cost]) -> Path:
    """Write a run's costs."""
    path = folder / COSTS
    write_text(path, json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")
    return path


def read_costs(folder: Path) -> list[Cost]:
    """Read a run's costs; none of a run that has no such file.

    Raises:
        UserError: if the file is damaged.
    """
    path = folder / COSTS
    if not path.is_file():
        return []
    try:
        return _COSTS.validate_python(read_json(path))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({in_short(error)}); delete it, and run the benchmark again") from error


@dataclass(frozen=True, slots=True)
class MeanCost:
    """One row's cost, the mean over its training seeds; None where it is not known. Units as in `Cost`."""

    method: str
    shot: int
    adapt_seconds: float | None
    image_seconds: float | None
    peak_bytes: float | None
    parameters: float | None
    training_seconds: float | None
    n_seeds: int


_MEASURED = ("adapt_seconds", "image_seconds", "peak_bytes", "parameters", "training_seconds")


def mean_costs(costs: Sequence[Cost]) -> list[MeanCost]:
    """Average over seeds, rows in the order of their shots and names."""
    groups: dict[tuple[int, str], list[Cost]] = defaultdict(list)
    for cost in costs:
        groups[cost.shot, cost.method].append(cost)
    return [
        MeanCost(
            method,
            shot,
            **{name: _mean(getattr(cost, name) for cost in group) for name in _MEASURED},
            n_seeds=len(group),
        )
        for (shot, method), group in sorted(groups.items())
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


Why = Literal["worst", "median", "best", "false lesion"]


@dataclass(frozen=True, slots=True)
class Annotated:
    """An image, grey levels (H, W), and where its lesion is, (H, W)."""

    id: str  # of the record
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """The facts of one query as one method segmented it."""

    target: str
    method: str  # row of the table
    seed: int  # of the training
    shot: int
    draw: int  # number of the support draw; -1 where there is none
    why: Why  # what it is an example of
    label: str  # of the query
    dice: float | None  # None for an image without a lesion


@dataclass(frozen=True, slots=True)
class GalleryCase(CaseFacts):
    """One query as one method segmented it, and its pictures."""

    query: Annotated  # with its true lesion
    prediction: NDArray[np.bool_]  # where the method sees a lesion, (H, W)
    supports: tuple[Annotated, ...] = ()  # with the masks that the method was shown


_FACTS = [field.name for field in fields(CaseFacts)]


def write_gallery(folder: Path, cases: Sequence[GalleryCase]) -> Path:
    """Write cases as PNG files into `gallery/` of a run's folder, and `gallery.json`, which names them, last."""
    root, seen = folder / GALLERY, dict[tuple[str, bytes], dict[str, str]]()
    entries: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        prediction = f"{number:03d}-prediction.png"
        write_mask(root / prediction, case.prediction)
        pictures = {"query": _write_annotated(root, case.query, seen), "prediction": prediction}
        supports = [_write_annotated(root, support, seen) for support in case.supports]
        entries.append({name: getattr(case, name) for name in _FACTS} | pictures | {"supports": supports})
    write_text(root / GALLERY_INDEX, json.dumps(entries, indent=1) + "\n")
    return root / GALLERY_INDEX


def read_gallery(folder: Path) -> list[GalleryCase]:
    """Read the cases of a run's folder; none of a run without a gallery.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / GALLERY / GALLERY_INDEX
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


@dataclass(frozen=True, slots=True)
class _Entry(CaseFacts):
    """A case in the index."""

    query: _Shown
    prediction: _FileName
    supports: list[_Shown]


_ENTRIES = TypeAdapter(list[_Entry])


def _read_case(root: Path, entry: _Entry) -> GalleryCase:
    return GalleryCase(
        **{name: getattr(entry, name) for name in _FACTS},
        query=_read_annotated(root, entry.query),
        prediction=read_image(root / entry.prediction) > 0,
        supports=tuple(_read_annotated(root, support) for support in entry.supports),
    )


def _read_annotated(root: Path, shown: _Shown) -> Annotated:
    image = read_image(root / shown["image"]).copy()  # writable, as the one that was written
    return Annotated(shown["id"], image, read_image(root / shown["mask"]) > 0)


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files beside the results; a table by itself has none of them."""

    config: Mapping[str, str] = field(default_factory=dict)  # as resolved, YAML by run
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # versions and device, by run
    costs: Sequence[Cost] = ()
    cases: Sequence[GalleryCase] = ()


def results_file(path: Path) -> Path:
    """Return the results table of a run's folder, or the table that the path is itself."""
    return path / RESULTS if path.is_dir() else path


def read_run_files(folder: Path, name: str) -> RunFiles:
    """Read what a run's folder holds beside the results; the name is to show the run by.

    Raises:
        UserError: if a file is damaged.
    """
    try:
        config = folder / CONFIG
        return RunFiles(
            config={name: config.read_text(encoding="utf-8")} if config.is_file() else {},
            environment=_environment(folder / ENVIRONMENT, name),
            costs=read_costs(folder),
            cases=read_gallery(folder),
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: a file of the run cannot be read ({in_short(error)}); run the benchmark again"
        ) from error


def _environment(path: Path, name: str) -> dict[str, Mapping[str, Any]]:
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict):
        raise JSONTextError("environment.json is not an object")
    return {name: found}
