"""A run's folder, or its table alone, as everything that a report says."""

import math
from pathlib import Path

import pytest
import yaml

from episodes.errors import UserError
from episodes.scoring.statistics import holm
from fewshot.report.collect import collect
from fewshot.report.content import ReportContent
from fewshot.results.comparison import compare
from fewshot.results.rows import SCHEMA, read_table, write_table
from fewshot.results.summary import summarise
from tests.fewshot.made_results import made_run, scored, study, table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs"), targets=("beta", "alpha"), draws=2)


@pytest.fixture(scope="module")
def content(run: Path) -> ReportContent:
    return collect(run)


def test_a_run_is_collected_whole(run: Path, content: ReportContent) -> None:
    assert content.title == run.name
    assert [part.target for part in content.targets] == ["beta", "alpha"]
    assert content.facts["protocol"] == "support-draws"
    assert yaml.safe_load(content.config[run.name])["name"] == run.name
    assert content.environment == {run.name: {"python": "3.11.2", "gpu": None}}
    alpha = content.targets[1]
    assert (alpha.n_lesion, alpha.n_normal, alpha.n_patients) == (24, 6, 15)
    assert list(alpha.rows) == summarise(read_table(run / "results.parquet"), ["alpha"])
    assert [answer.shot for answer in alpha.answers] == [0, 1, 5]
    assert alpha.answers[-1].best.method == "U-Net fine-tuned"
    assert [control.row.method for control in alpha.controls] == ["PANet", "PANet"]
    assert {cost.target for cost in alpha.costs} == {"alpha"}
    assert [case.target for case in alpha.cases] == ["alpha", "alpha"]
    assert content.targets[0].cases == []
    assert alpha.patients.keys() == {(row.method, row.shot) for row in alpha.rows}
    assert {method for method, _ in alpha.reliability} == {row.method for row in alpha.rows} - {"empty"}
    assert len(alpha.size_edges) == 2
    assert {share.group for share in alpha.labels} == {"benign", "malignant"}
    assert alpha.classic == []


def test_every_other_row_is_compared_with_the_best(run: Path, content: ReportContent) -> None:
    part = content.targets[0]
    best = part.answers[-1].best
    results = read_table(run / "results.parquet")
    assert [one.row for one in part.comparisons] == [row for row in part.rows if row != best]
    differences = [compare(results, one.row, best) for one in part.comparisons]
    assert [one.difference for one in part.comparisons] == differences
    assert [one.corrected_p for one in part.comparisons] == holm([found.p_value for found in differences])
    assert part.comparisons == part.answers[-1].others


def test_the_table_alone_gives_the_same_numbers(run: Path, content: ReportContent, tmp_path: Path) -> None:
    copy = tmp_path / "copied.parquet"
    copy.write_bytes((run / "results.parquet").read_bytes())
    alone = collect(copy)
    assert alone.title == "copied"
    assert (alone.config, alone.environment, alone.targets[0].cases) == ({}, {}, [])
    assert alone.headline == content.headline
    assert repr([part.rows for part in alone.targets]) == repr([part.rows for part in content.targets])


def test_targets_stand_as_the_table_lists_them(tmp_path: Path) -> None:
    rows = [scored("q1", 0.5, target=target) for target in ("one", "three", "two")]
    path = tmp_path / "results.parquet"
    write_table(path, table(*rows), {"targets": ["two", "one"]})
    assert [part.target for part in collect(path).targets] == ["two", "one", "three"]


def test_classic_results_have_the_papers_scores_as_well(tmp_path: Path) -> None:
    rows = [scored(f"q{run}{episode}", 0.5, draw=run, episode=episode) for run in range(2) for episode in range(3)]
    path = tmp_path / "results.parquet"
    write_table(path, table(*rows), {"protocol": "classic"})
    (part,) = collect(path).targets
    (row,) = part.classic
    assert (row.n_runs, row.n_episodes, row.episode_dice.mean) == (2, 3, 0.5)


def test_a_run_without_lesions_has_no_answer_and_no_comparisons(tmp_path: Path) -> None:
    made_run(tmp_path, table(scored("q1", math.nan, lesion=False, lesion_pixels=0)))
    content = collect(tmp_path)
    assert content.headline.startswith("Nothing could be scored")
    assert (content.targets[0].answers, content.targets[0].comparisons) == ([], [])


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.parquet: cannot be read"):
        collect(tmp_path)
    write_table(tmp_path / "results.parquet", SCHEMA.empty_table())
    with pytest.raises(UserError, match=r"results\.parquet: has no rows; run the benchmark again"):
        collect(tmp_path)
    made_run(tmp_path, study(patients=4, seeds=(0,)))
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(UserError, match=r"a file of the run cannot be read .* run the benchmark again"):
        collect(tmp_path)
