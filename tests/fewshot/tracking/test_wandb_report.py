"""The specification of a wandb Report, and saving it to a stand-in of the service."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import UserError
from fewshot.report.tables import table_of
from fewshot.results.numbers import full_interval
from fewshot.results.summary import MethodResult, summarise
from fewshot.tracking.wandb_results import build_report, publish_report
from fewshot.tracking.wandb_run import RunFacts, wandb_run
from tests.fewshot.made_results import study
from tests.fewshot.tracking.offline_wandb import offline_at
from tests.fewshot.tracking.service import Service, running_service

pytest.importorskip("wandb_workspaces")
TARGETS = ("alpha", "beta")
HEADLINE = "With 5 annotated images, PANet is best."


@pytest.fixture(scope="module")
def rows() -> list[MethodResult]:
    return summarise(study(TARGETS, patients=4, draws=2, seeds=(0,)), TARGETS)


@pytest.fixture(scope="module")
def blocks(rows: list[MethodResult], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the service is sent."""
    with offline_at(tmp_path_factory.mktemp("home")), logged_in_to_a_stand_in() as service:
        publish_report(tmp_path_factory.mktemp("run"), "made", rows, HEADLINE)
    found: list[dict[str, Any]] = json.loads(service.saved[0]["spec"])["blocks"]
    return found


@pytest.fixture
def service() -> Iterator[Service]:
    with logged_in_to_a_stand_in() as service:
        yield service


@contextmanager
def logged_in_to_a_stand_in() -> Iterator[Service]:
    with running_service() as service, pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "online")
        environment.setenv("WANDB_BASE_URL", service.url)
        environment.setenv("WANDB_API_KEY", "0123456789" * 4)
        yield service


def grids(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in blocks if block["type"] == "panel-grid"]


def panels(grid: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in grid["panelBankSectionConfig"]["panels"] if panel["viewType"] == kind]


def filters(grid: dict[str, Any]) -> dict[str, Any]:
    """What the runs of a grid have to be, by key."""
    (runs,) = grid["runSets"]
    found = runs["filters"]["filters"]
    assert {one["op"] for one in found} == {"="}
    assert {one.get("connector", "AND") for one in found} == {"AND"}
    return {f"{one['key']['section']}.{one['key']['name']}": one["value"] for one in found}


def texts(blocks: list[dict[str, Any]], kind: str) -> list[str]:
    return [block["children"][0]["text"] for block in blocks if block["type"] == kind]


def test_the_answer_comes_first_and_every_dataset_has_its_part(blocks: list[dict[str, Any]]) -> None:
    assert texts(blocks, "paragraph")[1] == HEADLINE  # an empty one stands before, always
    assert [title for title in texts(blocks, "heading") if title in TARGETS] == list(TARGETS)
    assert len(grids(blocks)) == 2 * len(TARGETS) + 1


def test_a_shot_curve_is_a_line_per_method_over_shots(blocks: list[dict[str, Any]]) -> None:
    curve, ends = panels(grids(blocks)[0], "Run History Line Plot")
    assert (curve["xAxis"], curve["metrics"]) == ("shot", ["lesion_dice_shared"])
    assert ends["metrics"] == ["lesion_dice_shared_low", "lesion_dice_shared_high"]
    for plot in (curve, ends):
        assert (plot["groupBy"], plot["groupAgg"], plot["groupArea"]) == ("method.value", "mean", "minmax")
        assert plot["limit"] >= 200


def test_runs_are_those_of_the_benchmark_and_dataset_without_controls(blocks: list[dict[str, Any]]) -> None:
    common = {"run.group": "made", "run.jobType": "benchmark"}
    curves, bars, others, _, trainings = map(filters, grids(blocks))
    assert curves == {**common, "config.target": "alpha", "config.control": "none"}
    assert others == {**common, "config.target": "beta", "config.control": "none"}
    assert bars == {**common, "config.target": "alpha", "config.shot": 5}
    assert trainings == {"run.group": "made", "run.jobType": "train"}


def test_run_sets_belong_to_the_reports_project(blocks: list[dict[str, Any]]) -> None:
    assert all("project" not in runs for grid in grids(blocks) for runs in grid["runSets"])


def test_there_are_scores_cases_bars_and_trainings(blocks: list[dict[str, Any]]) -> None:
    curves, bars, *_, trainings = grids(blocks)
    assert panels(curves, "Media Browser")[0]["mediaKeys"] == ["cases"]
    assert "summary:lesion_dice" in [
        column["accessor"] for column in panels(curves, "Parallel Coordinates Plot")[0]["columns"]
    ]
    assert len(panels(curves, "Run Comparer")) == 1
    assert panels(bars, "Bar Chart")[0]["metrics"] == ["lesion_dice"]
    assert [plot["metrics"] for plot in panels(trainings, "Run History Line Plot")] == [["loss"], ["validation"]]


def test_the_table_has_every_row(blocks: list[dict[str, Any]], rows: list[MethodResult]) -> None:
    tables = [block["content"] for block in blocks if block["type"] == "markdown-block"]
    own = [[row for row in rows if row.target == target] for target in TARGETS]
    assert tables == [table_of(part).markdown(raw=True).removesuffix("\n") for part in own]
    lines = tables[0].splitlines()
    assert len(lines) == 2 + len(own[0])
    first = own[0][0]
    cells = (f"{first.shot}", first.method, full_interval(first.dice), f"{first.scores['iou']:.3f}")
    assert lines[2].replace("**", "").startswith(f"| {' | '.join(cells)} |")


def test_a_long_name_makes_no_longer_title_than_there_may_be(rows: list[MethodResult]) -> None:
    assert len(build_report("clinic", "fewshot-bus", "long " * 50, rows, HEADLINE).title) == 128


def test_a_report_is_saved_and_a_second_call_replaces_it(
    tmp_path: Path, rows: list[MethodResult], service: Service
) -> None:
    urls = {publish_report(tmp_path, "made", rows, HEADLINE) for _ in range(2)}
    (url,) = urls
    assert url.startswith(f"{service.url}/clinic/fewshot-bus/reports/")
    first, second = service.saved
    assert (first["entityName"], first["projectName"], first["description"]) == ("clinic", "fewshot-bus", HEADLINE)
    assert first["id"] is None
    assert second["id"] == "Vmlldzox"


def test_entity_and_project_are_the_environments(
    tmp_path: Path, rows: list[MethodResult], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "team")
    monkeypatch.setenv("WANDB_PROJECT", "scanners")
    assert "/team/scanners/reports/" in publish_report(tmp_path, "made", rows, HEADLINE)
    assert (service.saved[0]["entityName"], service.saved[0]["projectName"]) == ("team", "scanners")


def test_without_a_login_the_way_to_one_is_told(tmp_path: Path, rows: list[MethodResult]) -> None:
    with pytest.raises(UserError, match=r"run `wandb login`, then this command again$"):
        publish_report(tmp_path, "made", rows, HEADLINE)


def test_without_a_login_what_waits_is_told(tmp_path: Path, rows: list[MethodResult]) -> None:
    for folder in (tmp_path, tmp_path / "models" / "unet"):
        with wandb_run(folder, RunFacts("id", "name", "made", "train", {})):
            pass
    with pytest.raises(UserError) as error:
        publish_report(tmp_path, "made", rows, HEADLINE)
    paths = f"{tmp_path}/models/*/wandb/offline-run-* {tmp_path}/wandb/offline-run-*"
    assert str(error.value).endswith(f"upload them: wandb sync {paths}")


def test_without_the_library_its_name_is_told(
    tmp_path: Path, rows: list[MethodResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(UserError, match=r'pip install "fewshot-bus\[report\]"'):
        publish_report(tmp_path, "made", rows, HEADLINE)


def test_a_service_that_refuses_is_an_error_of_one_line(
    tmp_path: Path, rows: list[MethodResult], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "answer", lambda query, variables: {})
    with pytest.raises(UserError, match="the report was not saved") as error:
        publish_report(tmp_path, "made", rows, HEADLINE)
    assert "\n" not in str(error.value)
