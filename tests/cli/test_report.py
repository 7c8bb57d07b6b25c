"""`fewshot report`: what it writes and prints of one run, of its table alone, and of two runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from fewshot.results.rows import table_facts, write_rows, write_table
from tests.cli.conftest import Fewshot
from tests.cli.test_commands import SMALL, UNTRAINED
from tests.fewshot.made_results import scored, study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of made-up results: a table, and the draws that it was measured on."""
    return made_run_folder(tmp_path_factory.mktemp("finished") / "first")


def made_run_folder(folder: Path, **changes: Any) -> Path:
    write_table(folder / "results.parquet", study(**changes), table_facts(study()))
    draws = [{"index": draw, "support": [f"alpha/x{draw}"], "queries": ["alpha/y"]} for draw in range(3)]
    header = {"format": "fewshot-draws", "version": 1, "records": "same", "n_draws": 3, "seed": 0, "depth": 1}
    lines = (json.dumps(line) for line in [header, *draws])
    (folder / "draws-alpha.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_report_writes_the_page_its_figures_and_tables(fewshot: Fewshot, finished: Path, tmp_path: Path) -> None:
    ended = fewshot("report", finished, "--out", "written")
    assert ended.status == 0, ended.err
    assert ended.out.startswith("With 5 annotated images, U-Net fine-tuned gives 0.7")
    assert ended.out.splitlines()[-1] == "Results: written/report.html, written/summary.json, written/summary.md"
    assert "U-Net fine-tuned" in (tmp_path / "written" / "report.html").read_text()
    assert (tmp_path / "written" / "figures" / "shot-curve-alpha.svg").is_file()
    assert {path.suffix for path in (tmp_path / "written" / "tables").iterdir()} == {".csv", ".md", ".tex"}


def test_report_needs_nothing_but_the_table(fewshot: Fewshot, finished: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "results.parquet"
    alone.parent.mkdir()
    alone.write_bytes((finished / "results.parquet").read_bytes())
    numbers = [json.loads(fewshot("report", finished, "--out", "o", "--json").out)]
    ended = fewshot("report", alone, "--json")
    assert ended.status == 0
    numbers.append(json.loads(ended.out))
    assert [one.pop("title") for one in numbers] == ["first", "results"]
    assert numbers[0] == numbers[1]
    assert (alone.parent / "report.html").is_file()


def test_report_of_a_benchmark_is_the_one_that_the_benchmark_wrote(fewshot: Fewshot, configs: Path) -> None:
    fewshot("benchmark", "benchmark.yaml", *SMALL, UNTRAINED)
    names = ("report.html", "summary.json", "summary.md", "tables/rows.csv")
    before = [(configs / "runs" / "tiny" / name).read_bytes() for name in names]
    assert fewshot("report", "runs/tiny").status == 0
    assert [(configs / "runs" / "tiny" / name).read_bytes() for name in names] == before


def test_report_compares_two_runs_on_the_same_draws(fewshot: Fewshot, finished: Path, tmp_path: Path) -> None:
    other = made_run_folder(tmp_path / "second", seed=1)
    ended = fewshot("report", finished, other)
    assert ended.status == 0, ended.err
    assert "first: U-Net" in ended.out
    assert (other / "against-first" / "report.html").is_file()
    draws = other / "draws-alpha.jsonl"
    draws.write_text(draws.read_text().replace("alpha/x2", "alpha/x9"))
    refused = fewshot("report", finished, other)
    assert refused.status == 1
    assert all(part in refused.message for part in ("draws-alpha.jsonl", "alpha/x2", "alpha/x9"))


def test_report_compares_every_row_with_one(fewshot: Fewshot, tmp_path: Path) -> None:
    dice = {"ours": 0.6, "theirs": 0.5}
    rows = [scored(query, dice[name], method=name) for name in dice for query in "abcde"]
    write_rows(tmp_path / "run" / "results.parquet", rows)
    ended = fewshot("report", "run", "--against", "theirs")
    assert ended.status == 0
    assert ended.out.startswith("ours\n\n| K | method | lesion Dice [95 %] | minus theirs |")
    assert "| 1 | ours | 0.600 [0.600, 0.600] | +0.100 [+0.100, +0.100], p < 0.001, corrected " in ended.out
    unknown = fewshot("report", "run", "--against", "mine")
    assert (unknown.status, "there are ours, theirs" in unknown.message) == (1, True)
    for words in (("--against", "theirs"), ()):
        missing = fewshot("report", "nowhere", *words)
        assert (missing.status, "run the benchmark again" in missing.message) == (1, True)
