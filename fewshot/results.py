"""The per-query results table: one row per target x method x seed x shot x draw x query."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from episodes.errors import UserError
from episodes.files import written_whole
from episodes.metrics import Scores

SCORES = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is computed in one piece: a method adapted once, and all queries segmented.

    Attributes:
        target: dataset.
        method: row of the table.
        seed: of the training.
        shot: support images; 0 for none.
        draw: number of the support draw; -1 where there is none.
    """

    target: str
    method: str
    seed: int
    shot: int
    draw: int

    @property
    def file_name(self) -> str:
        """Where the cell's rows are kept until all cells are there."""
        return f"{self.target}/{self.method}/seed{self.seed}-shot{self.shot}-draw{self.draw}.parquet"


SCHEMA = pa.schema(
    [
        ("target", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int32()),
        ("shot", pa.int32()),
        ("draw", pa.int32()),
        ("query", pa.string()),
        ("patient", pa.string()),
        ("label", pa.string()),
        ("lesion", pa.bool_()),
        ("control", pa.string()),  # what is done to the support's masks; null where the method is no control
        ("control_of", pa.string()),  # the method that it is a control of; null without one
        *((name, pa.float64()) for name in SCORES),
    ]
)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as one Parquet file, whole."""
    write_table(path, pa.Table.from_pylist(list(rows), schema=SCHEMA))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as one Parquet file, whole."""
    with written_whole(path) as partial:
        pq.write_table(table, partial)


def read_table(path: Path) -> pa.Table:
    """Read a results table.

    Raises:
        UserError: if the file is missing, damaged or another table.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as a results table ({error}); run the benchmark again") from error
    if not table.schema.equals(SCHEMA):
        raise UserError(f"{path}: its columns are not those of a results table; run the benchmark again")
    return table
