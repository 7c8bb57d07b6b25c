"""Per-query results made up from simple arguments, in the whole schema of the table."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from fewshot.results.rows import CALIBRATION_BINS, MILLIMETRES, SCHEMA, SCORES, write_table
from fewshot.results.run_files import Annotated, Cost, GalleryCase, write_costs, write_gallery

NAN = math.nan
IMAGE_PIXELS = 10_000
LESION_PIXELS = 400
PATIENTS = {"q1": "p1", "q2": "p1", "q3": "p2", "n1": "p3", "n2": "p3"}


def scored(query: str, dice: float, method: str = "A", shot: int = 1, draw: int = 0, **facts: Any) -> dict[str, Any]:
    """A row about a lesion image.

    A missed lesion scores 0 everywhere, and `dice` stands in for the other scores. As many pixels are predicted as the
    lesion has, so that the overlap is that share of them; every pixel is 0.05 or 0.95 probable to be lesion.
    """
    lesion = facts.get("lesion_pixels", LESION_PIXELS)
    overlap = 0 if math.isnan(dice) else round(dice * lesion)
    pixels = {"image_pixels": IMAGE_PIXELS, "lesion_pixels": lesion, "predicted_pixels": lesion}
    row = {
        "target": "ours",
        "method": method,
        "kind": "prototypes" if shot else "zero-shot",
        "model": "net",
        "trained_on": "sources",
        "seed": 0,
        "shot": shot,
        "draw": draw,
        "episode": -1,
        "query": query,
        "patient": PATIENTS.get(query, query),
        "label": "benign",
        "lesion": True,
        "class": "lesion",
        "control": None,
        "control_of": None,
        **dict.fromkeys(SCORES, dice),
        **dict.fromkeys(MILLIMETRES, NAN),
        "false_positive": NAN,
        "false_positive_area": NAN,
        **pixels,
        "overlap_pixels": overlap,
    }
    row |= facts
    return bins(row["image_pixels"], lesion, row["predicted_pixels"], row["overlap_pixels"]) | row


def normal(query: str, false_positive: float, area: float, **facts: Any) -> dict[str, Any]:
    """A row about an image without a lesion, of which so large an area is falsely predicted."""
    found = {"false_positive": false_positive, "false_positive_area": area, "overlap_pixels": 0}
    found |= {"label": "normal", "lesion": False, "predicted_pixels": round(area * IMAGE_PIXELS)}
    return scored(query, NAN, **{"lesion_pixels": 0, **found, **facts})


def bins(image: int, lesion: int, predicted: int, overlap: int) -> dict[str, list[float]]:
    """Calibration of a method that is 0.95 sure of every predicted pixel and 0.05 of all others."""
    counts, confidences, positives = np.zeros((3, CALIBRATION_BINS))
    counts[[0, -1]] = image - predicted, predicted
    confidences[[0, -1]] = 0.05 * counts[0], 0.95 * counts[-1]
    positives[[0, -1]] = lesion - overlap, overlap
    columns = {"bin_counts": counts, "bin_confidences": confidences, "bin_positives": positives}
    return {name: values.tolist() for name, values in columns.items()}


NO_BINS = {"bin_counts": None, "bin_confidences": None, "bin_positives": None}
FLOOR = {"kind": "empty", "model": None, "trained_on": None, **NO_BINS}
ORACLE = {"kind": "zero-shot", "trained_on": "target"}


def table(*rows: dict[str, Any], **facts: Any) -> pa.Table:
    """Rows as a table with facts, which say nothing but the protocol if not given."""
    content = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    return content.replace_schema_metadata({b"fewshot": json.dumps({"protocol": "support-draws"} | facts).encode()})


@dataclass(frozen=True, slots=True)
class MadeMethod:
    """A row of a made-up study and how good it is.

    Attributes:
        name: of the row.
        dice: mean lesion Dice without annotated images; None if it needs some.
        gain: by number of annotated images.
        false_positives: share of the normal images on which it sees a lesion.
        facts: further columns.
    """

    name: str
    dice: float
    gain: dict[int, float]
    false_positives: float
    facts: dict[str, Any]


STUDY = (
    MadeMethod("empty", 0.0, {0: 0.0}, 0.0, FLOOR),
    MadeMethod("U-Net", 0.6, {0: 0.0}, 0.4, {"kind": "zero-shot", "model": "unet"}),
    MadeMethod("U-Net fine-tuned", 0.6, {1: 0.03, 5: 0.1}, 0.3, {"kind": "fine-tuned", "model": "unet"}),
    MadeMethod("PANet", 0.5, {1: 0.0, 5: 0.05}, 0.6, {"kind": "prototypes", "model": "panet"}),
    MadeMethod(
        "PANet swapped",
        0.3,
        {1: 0.0, 5: 0.02},
        0.7,
        {"kind": "prototypes", "model": "panet", "control": "swapped", "control_of": "PANet"},
    ),
    MadeMethod("U-Net, trained here", 0.8, {0: 0.0}, 0.1, {**ORACLE, "model": "unet"}),
)


def study(
    targets: Sequence[str] = ("alpha",),
    *,
    methods: Sequence[MadeMethod] = STUDY,
    patients: int = 12,
    per_patient: int = 2,
    normals: int = 6,
    draws: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    noise: float = 0.05,
    seed: int = 0,
    **facts: Any,
) -> pa.Table:
    """A whole small benchmark: floors, methods with and without annotated images, a control and an oracle.

    Patient d lends draw d its support, so that its images are no queries there. Lesions differ in size and label.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for target in targets:
        hardness = rng.normal(0, 0.1, (patients, per_patient))
        sizes = rng.integers(100, 2000, (patients, per_patient))
        for method in methods:
            for shot, gain in method.gain.items():
                for draw in range(draws) if shot else [-1]:
                    for training in seeds if method.facts.get("model") else [0]:
                        cell = {"target": target, "seed": training, "draw": draw, "shot": shot, "method": method.name}
                        cell |= method.facts
                        level = method.dice + gain + 0.01 * training if method.dice else 0.0
                        for patient, image in np.ndindex(patients, per_patient):
                            if patient != draw:
                                dice = level - hardness[patient, image] + noise * rng.normal() if level else 0.0
                                rows.append(_lesion(target, patient, image, dice, int(sizes[patient, image]), cell))
                        for number in range(normals):
                            seen = float(rng.random() < method.false_positives)
                            ids = f"{target}/normal{number}", f"{target}/n{number // 2}"
                            rows.append(normal(ids[0], seen, 0.02 * seen, patient=ids[1], **cell))
    known = {"benchmark": "made", "targets": list(targets), "image_size": 128, "nsd_tolerance_pixels": 2.0}
    return table(*rows, **(known | facts))


def _lesion(target: str, patient: int, image: int, dice: float, size: int, cell: dict[str, Any]) -> dict[str, Any]:
    dice = float(np.clip(dice, 0, 1))
    found = {"lesion_pixels": size, "patient": f"{target}/p{patient}", "detected": float(dice > 0.6)}
    found |= {"iou": dice / (2 - dice), "hd95": 40 * (1 - dice), "hd95_mm": 8 * (1 - dice), "nsd_mm": dice}
    found["label"] = ("benign", "malignant")[patient % 2]
    if cell["method"] == "empty":
        found["predicted_pixels"] = 0
    return scored(f"{target}/p{patient}-{image}", dice, **found, **cell)


def made_run(folder: Path, content: pa.Table | None = None, **changes: Any) -> Path:
    """A run's folder as the benchmark leaves it, with a support manifest, costs and a small gallery.

    Args:
        folder: to write.
        content: the results; a `study` if not given, with further arguments for it.
        changes: of the study.
    """
    content = study(**changes) if content is None else content
    targets = sorted(set(content["target"].to_pylist()))
    write_table(folder / "results.parquet", content, json.loads(content.schema.metadata[b"fewshot"]))
    config = {"name": folder.name, "targets": targets, "shots": sorted(set(content["shot"].to_pylist()))}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11.2", "gpu": None}) + "\n")
    for target in targets:
        write_draws_of(folder, target, content)
    cells = {(row["target"], row["method"], row["seed"], row["shot"]): row["model"] for row in content.to_pylist()}
    costs = [
        Cost(*cell, 0.5 * cell[3], 0.01, 2**30, *((1_000_000, 60.0) if model else (None, None)), "a CPU")
        for cell, model in sorted(cells.items())
    ]
    write_costs(folder, costs)
    write_gallery(folder, [made_case(target, method, seed, shot) for target, method, seed, shot in sorted(cells)[:2]])
    return folder


def write_draws_of(folder: Path, target: str, content: pa.Table, *, records: str = "0123456789abcdef") -> None:
    """Write the manifest of a target's draws that fits the results."""
    queries: dict[int, set[str]] = {}
    for row in content.select(["target", "draw", "query"]).to_pylist():
        if row["target"] == target:
            queries.setdefault(row["draw"], set()).add(row["query"])
    drawn = sorted(draw for draw in queries if draw >= 0)
    header = {"format": "fewshot-draws", "version": 1, "records": records, "n_draws": len(drawn), "seed": 0, "depth": 1}
    entries = [{"index": draw, "support": [f"{target}/p{draw}-0"], "queries": sorted(queries[draw])} for draw in drawn]
    (folder / f"draws-{target}.jsonl").write_text("\n".join(map(json.dumps, [header, *entries])) + "\n")


def made_case(target: str, method: str, seed: int, shot: int) -> GalleryCase:
    """A square lesion, and a prediction that is one pixel too far down."""
    mask = np.zeros((16, 16), np.bool_)
    mask[4:8, 4:8] = True
    query = Annotated(f"{target}/p0-0", np.arange(256, dtype=np.uint8).reshape(16, 16), mask)
    support = Annotated(f"{target}/p1-0", query.image.T.copy(), mask.T)
    prediction = np.roll(mask, 1, axis=0)
    draw, supports = (0, (support,)) if shot else (-1, ())
    return GalleryCase(target, method, seed, shot, draw, "worst", "benign", 0.75, query, prediction, supports)
