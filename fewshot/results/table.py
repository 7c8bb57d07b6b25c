"""The per-query results table: one row per target x method x seed x shot x draw x query.

Every figure of a report is computed from it alone, so it also holds what scores are made of: pixel counts, from which
pooled scores follow, and how probable each pixel was, counted in bins.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from episodes.errors import UserError, in_short
from episodes.files import written_whole
from episodes.json_text import JSONTextError, parse_json
from episodes.metrics import Scores

SCORES = tuple(field.name for field in fields(Scores))
MILLIMETRES = ("hd95_mm", "nsd_mm")
PIXELS = ("image_pixels", "lesion_pixels", "predicted_pixels", "overlap_pixels")
CALIBRATION = ("bin_counts", "bin_confidences", "bin_positives")
CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is computed in one piece: a method adapted once, and all queries segmented.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images; 0 for none.
        draw: number of the support draw, or of the run under the `classic` protocol; -1 where there is none.
        fold: part of the target that the queries are in, of a model trained on the others; -1 of any other.
    """

    target: str
    method: str
    seed: int
    shot: int
    draw: int
    fold: int = -1

    @property
    def file_name(self) -> str:
        """Where the cell's rows are kept until all cells are there."""
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

    Args:
        path: of the file.
        table: the rows.
        facts: what holds for all of them, as JSON values; they stand in the file's metadata (see `table_facts`).
    """
    if facts is not None:
        table = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True).encode()})
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def table_facts(table: pa.Table) -> dict[str, Any]:
    """What `write_table` was given as facts; empty for a table without any.

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
