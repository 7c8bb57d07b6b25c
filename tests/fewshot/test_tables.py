"""Results and checks as people read them."""

import io
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from episodes.curation import CheckReport, Finding
from episodes.statistics import Interval
from fewshot.results import SCHEMA, SCORES
from fewshot.summary import Row, summarise
from fewshot.tables import markdown_table, print_check, print_summary, terminal_table, write_markdown


def made_row(method: str, shot: int, dice: float, **changes: Any) -> Row:
    scores = {"iou": dice / 2, "hd95": 12.34, "nsd": 0.5, "detected": 0.256, "false_positive": 0.1}
    facts: dict[str, Any] = {
        "target": "bus_uclm",
        "method": method,
        "shot": shot,
        "dice": Interval(dice, dice - 0.05, dice + 0.05),
        "seed_spread": math.nan,
        "scores": scores | {"precision": 0.0, "recall": 0.0, "false_positive_area": 0.0},
        "n_lesion": 264,
        "n_normal": 419,
    }
    return Row(**(facts | changes))


ROWS = [
    made_row("U-Net", 0, 0.6),
    made_row("empty", 0, 0.0),
    made_row("PANet", 1, 0.59),
    made_row("U-Net fine-tuned", 1, 0.55),
]


def rendered(rows: list[Row], target: str) -> list[str]:
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(terminal_table(rows, target))
    return capture.get().splitlines()


def test_the_terminals_table_has_the_numbers_of_every_row() -> None:
    lines = rendered(ROWS, "bus_uclm")
    assert lines[0].strip() == "bus_uclm: 264 lesion and 419 normal images"
    (line,) = (line for line in lines if "PANet" in line)
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["1", "PANet", "0.590 [0.540, 0.640]", "0.295", "26%", "12.3", "0.500", "10%"]


def test_numbers_of_shots_are_kept_apart() -> None:
    lines = rendered(ROWS, "bus_uclm")
    where = {name: next(i for i, line in enumerate(lines) if f" {name} " in line) for name in ("empty", "PANet")}
    assert [line[0] for line in lines[where["empty"] + 1 : where["PANet"]]] == ["├"]


def test_markdown_marks_the_best_of_each_number_of_shots() -> None:
    lines = markdown_table(ROWS, "bus_uclm").splitlines()
    assert lines[0] == "| K | method | lesion Dice [95 %] | IoU | found | HD95 | NSD | normals with a false lesion |"
    assert lines[1].count("|") == lines[0].count("|")
    assert lines[2].startswith("| **0** | **U-Net** | **0.600 [0.550, 0.650]** |")
    assert lines[3].startswith("| 0 | empty | 0.000 [-0.050, 0.050] | 0.000 |")
    assert [line.startswith(f"| **{shot}** |") for line, shot in zip(lines[2:], "0011", strict=True)] == [
        True,
        False,
        True,
        False,
    ]


def test_a_control_is_never_marked_however_high_it_scores() -> None:
    control = {"control": "swapped", "control_of": "PANet"}
    rows = [
        *ROWS[:2],
        made_row("PANet swapped", 1, 0.7, **control),
        *ROWS[2:],
        made_row("PANet emptied", 5, 0.7, **control),
    ]
    marked = [line.split("|")[2].strip() for line in markdown_table(rows, "bus_uclm").splitlines() if "**" in line]
    assert marked == ["**U-Net**", "**PANet**"]
    shown = terminal_table(rows, "bus_uclm")
    names = [str(name) for name in shown.columns[1].cells]
    assert [name for name, row in zip(names, shown.rows, strict=True) if row.style == "bold"] == ["U-Net", "PANet"]
    assert names == [row.method for row in rows]


def test_a_tables_rows_are_those_of_its_target() -> None:
    rows = [*ROWS, made_row("PANet", 1, 0.3, target="busi", n_lesion=647, n_normal=133)]
    assert "busi: 647 lesion and 133 normal images" in rendered(rows, "busi")[0]
    assert len(markdown_table(rows, "busi").splitlines()) == 3
    assert markdown_table(rows, "bus_uclm") == markdown_table(ROWS, "bus_uclm")


def test_the_spread_over_seeds_is_shown_where_there_are_several() -> None:
    table = markdown_table([made_row("PANet", 1, 0.59, seed_spread=0.0123)], "bus_uclm")
    assert "0.590 [0.540, 0.640] ±0.012 over seeds" in table


def test_a_dataset_without_normals_has_no_false_lesions_to_show() -> None:
    scores = ROWS[0].scores | {"false_positive": math.nan}
    assert markdown_table([made_row("U-Net", 0, 0.6, scores=scores)], "bus_uclm").splitlines()[-1].endswith("| **-** |")


# What is printed


def per_query_table() -> pa.Table:
    """Two methods on four lesions of four patients and a normal."""
    rows = []
    for method, shot, draw, dice in (("U-Net", 0, -1, 0.4), ("PANet", 1, 0, 0.7)):
        for number in range(5):
            lesion = number < 4
            scores = dict.fromkeys(SCORES, dice + number / 100 if lesion else math.nan)
            scores |= dict.fromkeys(("false_positive", "false_positive_area"), math.nan if lesion else 0.0)
            cell = {"target": "mine", "method": method, "seed": 0, "shot": shot, "draw": draw}
            facts = {"query": f"mine/{number}", "patient": f"mine/p{number}", "lesion": lesion}
            rows.append({**cell, **facts, "label": "benign" if lesion else "normal", **scores})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_the_printed_summary_ends_with_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    table = per_query_table()
    files = [Path("/runs/[old]") / ("deep" * 40) / "results.parquet", Path("summary.json")]
    print_summary(table, summarise(table, ["mine"]), ["mine"], files)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "mine: 4 lesion and 1 normal images"
    assert lines[-1] == f"Results: {files[0]}, summary.json"  # on one line, brackets and all
    assert any("'PANet' is best: lesion Dice 0.715" in line for line in lines)


def test_the_markdown_file_has_every_targets_table_and_answer(tmp_path: Path) -> None:
    table = per_query_table()
    path = write_markdown(tmp_path, table, summarise(table, ["mine"]), ["mine"])
    text = path.read_text()
    assert path == tmp_path / "summary.md"
    assert text.startswith("| K | method |")
    assert text.rstrip().splitlines()[-1].startswith("On mine, with 1 annotated image, 'PANet' is best")


def test_what_controls_say_follows_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = per_query_table().to_pylist()
    shown = {"method": "PANet swapped", "control": "swapped", "control_of": "PANet"}
    control = [row | shown | {"dice": row["dice"] - 0.2} for row in rows if row["method"] == "PANet"]
    table = pa.Table.from_pylist([*rows, *control], schema=SCHEMA)
    summary = summarise(table, ["mine"])
    verdict = "'PANet' falls by 0.200 [0.200, 0.200] with 1 annotated image when its supports' masks are swapped."
    assert write_markdown(tmp_path, table, summary, ["mine"]).read_text().endswith(f"\n\n{verdict}\n")
    print_summary(table, summary, ["mine"], [])
    printed = capsys.readouterr().out
    assert " PANet swapped " in printed
    assert printed.index("'PANet' is best") < printed.index(verdict)


REPORT = CheckReport(
    dataset="busi",
    root="data/[copy] BUSI",
    counts={"images": 780, "benign": 437, "normal": 133},
    published={"images": 780, "benign": 437},
    findings=(
        Finding("several lesions", ("busi/benign (195)",), "3 separate parts in 3 mask file(s)"),
        Finding("several lesions", ("busi/benign (25)",), "2 separate parts [sic]"),
        Finding("exact duplicates", ("busi/benign (433)", "busi/malignant (145)"), "the same pixels"),
    ),
)


def test_a_check_shows_counts_beside_the_published_ones_and_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(REPORT)
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert rows == [["images", "780", "780"], ["benign", "437", "437"], ["normal", "133", "-"]]
    assert "busi: data/[copy] BUSI" in out
    assert out.splitlines()[-5:] == [
        "several lesions: 2",
        "  busi/benign (195): 3 separate parts in 3 mask file(s)",
        "  busi/benign (25): 2 separate parts [sic]",
        "exact duplicates: 1",
        "  busi/benign (433), busi/malignant (145): the same pixels",
    ]


def test_a_check_without_findings_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(CheckReport("mine", "mine", {"images": 3}, {}, ()))
    assert capsys.readouterr().out.splitlines()[-1] == "nothing found wrong"
