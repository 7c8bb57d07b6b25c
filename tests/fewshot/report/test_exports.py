"""Tables as CSV, Markdown, LaTeX and JSON."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewshot.report.collect import collect, content_of
from fewshot.report.content import ReportContent
from fewshot.report.exports import write_summary, write_tables
from fewshot.report.sentences import describe_control
from fewshot.report.tables import best_rows, tables_of
from fewshot.results.index import ResultsIndex
from fewshot.results.run_files import RunFiles
from fewshot.results.summary import summarise
from fewshot.results.tables import Table
from tests.fewshot.made_results import FLOOR, ORACLE, made_run, scored, table


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ReportContent:
    return collect(made_run(tmp_path_factory.mktemp("runs"), patients=9, per_patient=1, seeds=(0, 1)))


def test_every_table_is_written_in_every_format(content: ReportContent, tmp_path: Path) -> None:
    files = write_tables(content, tmp_path / "tables")
    names = ("rows", "comparisons", "sizes", "labels", "controls", "costs")
    assert [path.name for path in files] == [f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(path.name for path in files)


def test_csv_has_every_number_in_full(content: ReportContent, tmp_path: Path) -> None:
    write_tables(content, tmp_path)
    (part,) = content.targets
    frame = pd.read_csv(tmp_path / "rows.csv", keep_default_na=False, na_values=[""])
    assert len(frame) == len(part.rows)
    for row, (_, line) in zip(part.rows, frame.iterrows(), strict=True):
        assert (line.target, line.method, line.shot, line.role) == (*row.key, row.role)
        assert (line.dice, line.dice_low, line.dice_high) == (row.dice.estimate, row.dice.low, row.dice.high)
        assert line.hd95_mm == row.scores["hd95_mm"]
        assert line.n_seeds == len(row.seed_means)
        assert math.isnan(line.seed_spread) == math.isnan(row.seed_spread)
    compared = pd.read_csv(tmp_path / "comparisons.csv")
    assert compared.corrected_p.tolist() == [one.corrected_p for one in part.comparisons]
    assert compared.difference_low.tolist() == [one.difference.interval.low for one in part.comparisons]
    assert set(compared.best) == {"U-Net fine-tuned"}
    sizes = pd.read_csv(tmp_path / "sizes.csv")
    assert sizes.dice.tolist() == [share.dice.estimate for share in part.sizes]
    costs = pd.read_csv(tmp_path / "costs.csv")
    assert costs.loc[costs.shot == 5, "adapt_seconds"].eq(2.5).all()


def test_unknown_numbers_are_nothing_in_csv() -> None:
    text = Table(("method",), [["a"]], records=[{"method": 'a, "b"', "score": math.nan, "of": None}]).csv()
    assert text == 'method,score,of\n"a, ""b""",,\n'
    assert next(csv.DictReader(text.splitlines()))["method"] == 'a, "b"'


TABLE = Table(
    ("dataset", "K", "method", "Dice"),
    [["bus_uclm", "0", "a|b & c", "0.5 ±0.1"], ["bus_uclm", "5", "100 % {x}", "0.6"]],
    best={1},
    title="A title",
)


def test_markdown_marks_the_best_and_keeps_cells_apart() -> None:
    assert TABLE.markdown().splitlines() == [
        "# A title",
        "",
        "| dataset | K | method | Dice |",
        "|:---|---:|:---|---:|",
        r"| bus\_uclm | 0 | a\|b & c | 0.5 ±0.1 |",
        r"| **bus\_uclm** | **5** | **100 % {x}** | **0.6** |",
    ]


def test_latex_escapes_and_marks_the_best() -> None:
    assert TABLE.latex().splitlines() == [
        "% A title",
        r"\begin{tabular}{lrlr}",
        r"\hline",
        r"dataset & K & method & Dice \\",
        r"\hline",
        r"bus\_uclm & 0 & a$|$b \& c & 0.5 $\pm$0.1 \\",
        r"\textbf{bus\_uclm} & \textbf{5} & \textbf{100 \% \{x\}} & \textbf{0.6} \\",
        r"\hline",
        r"\end{tabular}",
    ]
    (row,) = (line for line in Table(("K",), [["#1 ~ $2^3 \\ <4>"]]).latex().splitlines() if "4" in line)
    assert row == r"\#1 \textasciitilde{} \$2\textasciicircum{}3 \textbackslash{} $<$4$>$ \\"


def test_tables_are_as_wide_as_their_headings(content: ReportContent) -> None:
    for one in tables_of(content):
        assert {len(texts) for texts in one.texts} == {len(one.headings)}, one.name
        assert len(one.texts) == len(one.records)


def test_the_best_of_every_number_of_shots_is_marked() -> None:
    rows = [
        *(scored("q1", dice, name, shot) for shot in (0, 5) for name, dice in (("a", 0.6), ("b", 0.5))),
        scored("q1", 0.9, "oracle", 0, **ORACLE),
        scored("q1", 0.9, "control", 5, control="swapped", control_of="a"),
        scored("q1", 0.1, "empty", 1, **FLOOR),
        scored("q1", 0.1, "empty", 0, target="other", **FLOOR),
    ]
    found = summarise(table(*rows), ["ours", "other"])
    marked = [found[number] for number in sorted(best_rows(found))]
    assert [row.key for row in marked] == [("ours", "a", 0), ("ours", "a", 5), ("other", "empty", 0)]


# The summary


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_summary_is_strict_json_and_holds_all_numbers(content: ReportContent, tmp_path: Path) -> None:
    path = write_summary(tmp_path, content)
    assert path == tmp_path / "summary.json"
    summary = strictly(path.read_text())
    (part,) = content.targets
    assert summary["headline"] == content.headline
    assert summary["warnings"] == content.warnings
    best = part.answers[-1]
    answer = summary["answers"]["alpha"][-1]
    assert answer["sentence"] == best.sentence
    assert answer["best"]["method"] == best.best.method
    assert answer["best"]["dice"]["low"] == best.best.dice.low
    assert best.gain is not None
    assert answer["gain"]["interval"]["estimate"] == best.gain.interval.estimate
    assert summary["answers"]["alpha"][0]["without"] is None
    assert [row["dice"]["estimate"] for row in summary["rows"]] == [row.dice.estimate for row in part.rows]
    assert {row["role"] for row in summary["rows"]} == {"method", "floor", "control", "oracle"}
    (empty,) = (row for row in summary["rows"] if row["method"] == "empty")
    assert empty["seed_spread"] is None
    assert [one["corrected_p"] for one in summary["comparisons"]] == [one.corrected_p for one in part.comparisons]
    assert [one["sentence"] for one in summary["controls"]] == [describe_control(one) for one in part.controls]
    assert [one["n_images"] for one in summary["sizes"]] == [3] * len(part.sizes)
    assert summary["size_edges"] == {"alpha": list(part.size_edges)}
    assert len(summary["calibration"]) == len(part.reliability)
    assert summary["images"] == {"alpha": {"lesion": 9, "normal": 6, "patients": 12}}
    assert summary["pairs"] == summary["classic"] == []


def test_a_summary_of_next_to_nothing_is_json_as_well(tmp_path: Path) -> None:
    index = ResultsIndex(table(scored("q1", math.nan, lesion=False, lesion_pixels=0)))
    content = replace(content_of(index, "nothing", RunFiles()), facts={})
    assert strictly(write_summary(tmp_path, content).read_text())["answers"] == {"ours": []}
    assert [path.name for path in write_tables(content, tmp_path)] == ["rows.csv", "rows.md", "rows.tex"]
