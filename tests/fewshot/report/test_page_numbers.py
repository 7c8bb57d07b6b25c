"""From a results table through the page and back: the numbers shown are those that pandas computes."""

from pathlib import Path

import pandas as pd
import pytest

from fewshot.report.collect import collect
from fewshot.report.page import write_report
from tests.fewshot.made_results import made_run
from tests.fewshot.report.test_page import Page

SCORES = {
    "dice": "lesion",
    "shared_dice": "lesion",
    "iou": "lesion",
    "detected": "lesion",
    "hd95": "lesion",
    "false_positive": "normal",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("runs") / "phantoms", targets=("alpha", "beta"))


@pytest.fixture(scope="module")
def cells(run: Path) -> list[dict[str, str]]:
    html = write_report(collect(run), run / "report").read_text(encoding="utf-8")
    return [attributes for _, attributes in Page(html).elements if "data-value" in attributes]


def test_every_mean_is_that_of_the_results_table(run: Path, cells: list[dict[str, str]]) -> None:
    table = pd.read_parquet(run / "results.parquet")
    checked = 0
    for cell in cells:
        rows = table[
            (table["target"] == cell["data-target"])
            & (table["method"] == cell["data-method"])
            & (table["shot"] == int(cell["data-shot"]))
        ]
        score = cell["data-score"]
        if score in SCORES:
            rows = rows[rows["lesion"] == (SCORES[score] == "lesion")]
            expected = rows.groupby("query")[score.removeprefix("shared_")].mean().mean()
        elif score == "patient_dice":
            queries = rows[rows["lesion"]].groupby(["patient", "query"])["dice"].mean()
            expected = queries.groupby("patient").mean().mean()
        else:
            continue
        assert float(cell["data-value"]) == pytest.approx(expected, rel=1e-9), cell
        checked += 1
    assert checked > 100


def test_every_row_of_the_results_table_is_shown(run: Path, cells: list[dict[str, str]]) -> None:
    table = pd.read_parquet(run / "results.parquet")
    rows = {(target, method, str(shot)) for target, method, shot in table.groupby(["target", "method", "shot"]).groups}
    assert {(cell["data-target"], cell["data-method"], cell["data-shot"]) for cell in cells} == rows
