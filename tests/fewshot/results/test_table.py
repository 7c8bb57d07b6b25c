"""The results table on disk."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from episodes.errors import UserError
from fewshot.results.rows import (
    CALIBRATION,
    MILLIMETRES,
    PIXELS,
    SCHEMA,
    SCORES,
    Cell,
    read_table,
    table_facts,
    write_rows,
    write_table,
)
from tests.fewshot.made_results import scored, table


def row(query: str, **values: Any) -> dict[str, Any]:
    """Every column, in their order."""
    content = scored(query, math.nan, target="t", method="m", draw=2, patient="t/p", control="swapped")
    return {name: (content | values)[name] for name in SCHEMA.names}


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "rows.parquet"
    no_bins = dict.fromkeys(CALIBRATION)
    rows = [row("t/b", dice=0.1 + 0.2, **no_bins), row("t/a", dice=1.0, lesion=False, bin_counts=list(range(10)))]
    rows[1] |= {"bin_confidences": [0.5] * 10, "bin_positives": [1] * 10}  # exact in float32
    write_rows(path, rows)
    assert repr(read_table(path).to_pylist()) == repr(rows)  # NaN is written alike
    assert list(path.parent.iterdir()) == [path]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_rows(tmp_path / name, [row("t/a", dice=0.5)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_columns_are_those_of_the_protocol() -> None:
    row = ["target", "method", "kind", "model", "trained_on", "seed", "shot", "draw", "episode"]
    query = ["query", "patient", "label", "lesion", "class", "control", "control_of"]
    assert SCHEMA.names == [*row, *query, *SCORES, *MILLIMETRES, *PIXELS, *CALIBRATION]
    assert {"dice", "iou", "hd95", "nsd", "detected", "false_positive"} < set(SCORES)


def test_facts_come_back_and_are_no_column(tmp_path: Path) -> None:
    facts = {"protocol": "support-draws", "image_size": 256, "targets": ["a", "b"]}
    path = tmp_path / "results.parquet"
    write_table(path, table(row("t/a"), row("t/b")), facts)
    found = read_table(path)
    assert table_facts(found) == facts
    assert found["query"].to_pylist() == ["t/a", "t/b"]
    write_rows(path, [row("t/a")])
    assert table_facts(read_table(path)) == {}


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but nothing else PAR1"])
def test_a_missing_or_damaged_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "results.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"results\.parquet: cannot be read.*run the benchmark again"):
        read_table(path)


def test_another_table_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"dice": [0.5]}), tmp_path / "other.parquet")
    with pytest.raises(UserError, match=r"other\.parquet: its columns are not those"):
        read_table(tmp_path / "other.parquet")


def test_every_cell_has_a_file_of_its_own() -> None:
    cells = [
        Cell(target, method, seed, shot, draw)
        for target in ("a", "b")
        for method in ("PANet", "PANet untrained")
        for seed in (0, 1)
        for shot, draw in ((0, -1), (1, 0), (1, 1), (5, 0), (11, 0))
    ]
    assert len({cell.file_name for cell in cells}) == len(cells)
    assert Cell("a", "PANet", 0, 5, 2).file_name == "a/PANet/seed0-shot5-draw2.parquet"


def test_cells_are_ordered_by_target_method_seed_shot_and_draw() -> None:
    cells = [Cell("a", "m", 0, 5, 10), Cell("a", "m", 0, 5, 2), Cell("a", "m", 0, 10, 0), Cell("A", "z", 9, 9, 9)]
    assert sorted(cells) == [cells[3], cells[1], cells[0], cells[2]]
