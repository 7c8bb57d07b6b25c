"""The per-query table: one row per target, method, seed, shot, draw and query."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from episodes.errors import UserError, in_short
from episodes.images.spacing import Spacing
from episodes.io.files import written_whole
from episodes.io.yaml_json import JSONTextError, parse_json
from episodes.scoring.curves import ProbabilityHistogram
from episodes.scoring.mask_scores import Boundaries, Scores, Surface, score

SCORES = tuple(field.name for field in fields(Scores))
MILLIMETRES = ("hd95_mm", "nsd_mm")
PIXELS = ("image_pixels", "lesion_pixels", "predicted_pixels", "overlap_pixels")
CALIBRATION = ("bin_counts", "bin_confidences", "bin_positives")
CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The part of a benchmark that is computed in one piece: a method adapted once, and all queries segmented."""

    target: str
    method: str  # row of the table
    seed: int  # of the training
    shot: int  # support images; 0 for none
    draw: int  # number of the support draw, or of the run under the `classic` protocol; -1 where there is none
    fold: int = -1  # part of the target that the queries are in, of a model trained on the others; -1 of any other

    @property
    def file_name(self) -> str:
        """Return the file of the cell's rows until all cells are there."""
        fold = "" if self.fold < 0 else f"-fold{self.fold}"
        return f"{self.target}/{self.method}/seed{self.seed}-shot{self.shot}-draw{self.draw}{fold}.parquet"


SCHEMA = pa.schema(
    [
        ("target", pa.string()),
        ("method", pa.string()),  # the row's name in the configuration
        ("kind", pa.string()),  # the way of using a model, such as `fine-tuned`
        ("model", pa.string()),  # the model's name; null for floors
        ("trained_on", pa.string()),  # `sources` or `target`; null where nothing was trained
        ("seed", pa.int32()),
        ("shot", pa.int32()),
        ("draw", pa.int32()),
        ("episode", pa.int32()),  # number within a run of the `classic` protocol; -1 under `support-draws`
        ("query", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("lesion", pa.bool_()),  # whether the query shows what is asked for
        ("class", pa.string()),  # what is asked for: `lesion`, or a kind of it under `classic`
        ("control", pa.string()),  # what is done to the support's masks; null where the method is no control
        ("control_of", pa.string()),  # the method that it is a control of; null without one
        *((name, pa.float64()) for name in SCORES),
        *((name, pa.float64()) for name in MILLIMETRES),  # NaN where the size of a pixel is unknown
        *((name, pa.int32()) for name in PIXELS),
        # Pixels by predicted probability of lesion, in bins of equal width over [0, 1]: how many, their summed
        # probability, and how many of them are lesion; null for methods that give no probabilities.
        ("bin_counts", pa.list_(pa.int32(), CALIBRATION_BINS)),
        ("bin_confidences", pa.list_(pa.float32(), CALIBRATION_BINS)),
        ("bin_positives", pa.list_(pa.int32(), CALIBRATION_BINS)),
    ]
)
FACTS = b"fewshot"


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as one Parquet file, whole."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def write_table(path: Path, table: pa.Table, facts: Mapping[str, Any] | None = None) -> None:
    """Write a table as one Parquet file, whole.

    What holds for all its rows, JSON values, stands in the file's metadata (see `table_facts`).
    """
    if facts is not None:
        table = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True).encode()})
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def table_facts(table: pa.Table) -> dict[str, Any]:
    """Return what `write_table` was given as facts; empty for a table without any.

    Raises:
        UserError: if they are damaged.
    """
    try:
        facts = parse_json((table.schema.metadata or {}).get(FACTS, b"{}").decode(), nan=True)
        if isinstance(facts, dict):
            return facts
        raise JSONTextError("not an object")
    except ValueError as error:
        raise UserError(f"results table: its facts are damaged ({error}); run the benchmark again") from error


def read_table(path: Path) -> pa.Table:
    """Read a results table.

    Raises:
        UserError: if the file is missing, damaged or another table.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read as a results table ({in_short(error)}); run the benchmark again"
        ) from error
    if not table.schema.equals(SCHEMA):
        raise UserError(f"{path}: its columns are not those of a results table; run the benchmark again")
    return table


TOLERANCE_MM = 1.0
"""Largest distance at which two boundaries agree, for the normalised surface Dice in millimetres."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The scores and pixel counts of one query."""

    scores: Scores
    hd95_mm: float  # NaN where the size of a pixel is unknown
    nsd_mm: float  # normalised surface Dice at `TOLERANCE_MM`; likewise
    image_pixels: int
    lesion_pixels: int  # of the truth
    predicted_pixels: int
    overlap_pixels: int  # of truth and prediction
    bin_counts: list[int] | None = None  # by predicted probability, (CALIBRATION_BINS,); None without any
    bin_confidences: list[float] | None = None  # their summed probability; likewise
    bin_positives: list[int] | None = None  # how many of them are lesion; likewise

    def columns(self) -> Mapping[str, Any]:
        """Return the values by column of the results table."""
        columns = {name: getattr(self, name) for name in self.__slots__ if name != "scores"}
        return asdict(self.scores) | columns


def judge(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    probability: NDArray[np.floating] | None = None,
    spacing: Spacing | None = None,
    surface: Surface | None = None,
) -> Judgement:
    """Score a query's predicted mask against the annotated one, both boolean (H, W).

    The probability of lesion, in [0, 1], (H, W), is None where a method gives none; the spacing, millimetres from one
    pixel to the next, (row, column), at this size, is None where it is unknown; the surface is the truth's.
    """
    bins: dict[str, list[Any]] = {}
    if probability is not None:
        histogram = ProbabilityHistogram(CALIBRATION_BINS)
        histogram.add(probability, truth)
        bins = {
            "bin_counts": (histogram.positives + histogram.negatives).tolist(),
            "bin_confidences": histogram.sums.tolist(),
            "bin_positives": histogram.positives.tolist(),
        }
    boundaries, hd95_mm, nsd_mm = Boundaries(prediction, truth, surface), np.nan, np.nan
    if spacing is not None and truth.any():
        hd95_mm, nsd_mm = boundaries.scores(TOLERANCE_MM, spacing)
    return Judgement(
        scores=score(prediction, truth, boundaries=boundaries),
        hd95_mm=hd95_mm,
        nsd_mm=nsd_mm,
        image_pixels=truth.size,
        lesion_pixels=int(np.count_nonzero(truth)),
        predicted_pixels=int(np.count_nonzero(prediction)),
        overlap_pixels=int(np.count_nonzero(prediction & truth)),
        **bins,
    )


def working_spacing(spacing: Spacing | None, original: tuple[int, int], working: tuple[int, int]) -> Spacing | None:
    """Compute the size of a pixel, (row, column), once an image of (height, width) is stretched to the working size.

    >>> working_spacing((0.1, 0.25), (400, 600), (200, 200))
    (0.2, 0.75)
    """
    if spacing is None:
        return None
    return spacing[0] * original[0] / working[0], spacing[1] * original[1] / working[1]
