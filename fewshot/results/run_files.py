"""The files of a run's folder beside its results table: configuration, environment, costs, and a gallery of cases."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
COSTS = "costs.json"
GALLERY = "gallery"
GALLERY_INDEX = "gallery.json"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one row of the table with one training seed.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images; 0 for none.
        adapt_seconds: to adapt to one support set, mean over draws.
        image_seconds: to segment one image, its encoding included, mean over images and draws.
        peak_bytes: most memory held meanwhile, by the process or on the accelerator; None where it is not known.
        parameters: weights of the network; None for methods without one.
        training_seconds: of the model, on the device it was trained on; None where nothing was trained here.
        device: what it was measured on.
    """

    target: str
    method: str
    seed: int
    shot: int
    adapt_seconds: float
    image_seconds: float
    peak_bytes: int | None
    parameters: int | None
    training_seconds: float | None
    device: str


_COSTS = TypeAdapter(list[Cost])


def write_costs(folder: Path, costs: Sequence[Cost]) -> Path:
    """Write a run's costs.

    Returns:
        The file written.
    """
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


def mean_costs(costs: Sequence[Cost]) -> list[MeanCost]:
    """Average over seeds, rows in the order of their shots and names."""
    groups: dict[tuple[int, str], list[Cost]] = defaultdict(list)
    for cost in costs:
        groups[cost.shot, cost.method].append(cost)
    return [
        MeanCost(
            method,
            shot,
            adapt_seconds=_mean(cost.adapt_seconds for cost in group),
            image_seconds=_mean(cost.image_seconds for cost in group),
            peak_bytes=_mean(cost.peak_bytes for cost in group),
            parameters=_mean(cost.parameters for cost in group),
            training_seconds=_mean(cost.training_seconds for cost in group),
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


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files beside the results; a table by itself has none of them.

    Attributes:
        config: the resolved configuration as YAML, by run.
        environment: versions and device, by run.
        costs: what rows cost.
        cases: to look at.
    """

    config: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: Sequence[Cost] = ()
    cases: Sequence[GalleryCase] = ()


def results_file(path: Path) -> Path:
    """Return the results table of a run's folder, or the table that the path is itself."""
    return path / RESULTS if path.is_dir() else path


def read_run_files(folder: Path, name: str) -> RunFiles:
    """Read what a run's folder holds beside the results.

    Args:
        folder: of the run.
        name: to show it by.

    Raises:
        UserError: if a file is damaged.
    """
    try:
        config = _text(folder / "config.yaml")
        return RunFiles(
            config={} if config is None else {name: config},
            environment=_environment(folder / "environment.json", name),
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


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
