"""A benchmark in wandb: its offline runs hold the numbers of the results table."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import wandb
from PIL import Image

from episodes.scoring.statistics import crossed_bootstrap
from episodes.storage.store import Collection
from fewshot.config.training import TrackingConfig
from fewshot.results.identities import run_identities
from fewshot.results.run_files import read_gallery, write_gallery
from fewshot.results.summary import summarise
from fewshot.tracking.wandb_results import log_benchmark
from fewshot.training.run import train
from tests.fewshot.made_results import STUDY, made_case, study
from tests.fewshot.small_networks import train_config
from tests.fewshot.tiny_runs import silent
from tests.fewshot.tracking.offline_wandb import Logged, folders_of, offline_at, read_run, warnings_of

TARGETS = ("alpha", "beta")
FALSE = ("false_positive", "false_positive_area")
CONFIG: dict[str, Any] = {
    "draws": 2,
    "methods": {"PANet": {"method": "prototypes", "model": "panet", "options": {"temperature": 20}}},
    "models": {"panet": {"network": "panet", "levels": [2]}},
}
# A floor, a method at one and five shots, and its control.
METHODS = [method for method in STUDY if method.name in {"empty", "PANet", "PANet swapped"}]


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return study(TARGETS, methods=METHODS, patients=4, normals=2, draws=2, seeds=(0, 1))


@pytest.fixture(scope="module")
def benchmark(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a benchmark that was logged."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_gallery(folder, [made_case("alpha", "PANet", 1, 5), made_case("alpha", "PANet", 0, 5)])
    with offline_at(tmp_path_factory.mktemp("home")):
        log(folder, table)
    return folder


def log(folder: Path, table: pa.Table, group: str = "made") -> list[str]:
    return log_benchmark(folder, group, CONFIG, table, summarise(table, TARGETS), silent())


def logged(folder: Path, name: str) -> Logged:
    (run_id,) = [key for key, known in index(folder).items() if known == name]
    (run,) = [run for run in folders_of(folder) if run.name.endswith(run_id)]
    return read_run(run)


def index(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "wandb" / "logged.json").read_text())["fewshot-bus"]
    return found


def rows_of(table: pa.Table, target: str, method: str, shot: int, seed: int) -> list[dict[str, Any]]:
    wanted = {"target": target, "method": method, "shot": shot, "seed": seed}
    return [row for row in table.to_pylist() if wanted == {name: row[name] for name in wanted}]


def grid(rows: Sequence[dict[str, Any]], score: str) -> tuple[np.ndarray, list[str]]:
    """Draws x lesion images, and their patients."""
    lesions = [row for row in rows if row["lesion"]]
    queries = sorted({(row["query"], row["patient"]) for row in lesions})
    draws = sorted({row["draw"] for row in lesions})
    values = np.full((len(draws), len(queries)), np.nan)
    for row in lesions:
        values[draws.index(row["draw"]), queries.index((row["query"], row["patient"]))] = row[score]
    return values, [patient for _, patient in queries]


def test_there_is_a_run_for_every_method_target_shot_and_seed(benchmark: Path, table: pa.Table) -> None:
    cells = {(row["target"], row["method"], row["shot"], row["seed"]) for row in table.to_pylist()}
    names = {f"{target}/{method}/{shot}-shot/seed{seed}" for target, method, shot, seed in cells}
    assert len(cells) == 2 * (1 + 2 * 2 * 2)
    assert set(index(benchmark).values()) == names
    assert len(index(benchmark)) == len(folders_of(benchmark)) == len(cells)


def test_a_run_holds_the_numbers_of_its_rows(benchmark: Path, table: pa.Table) -> None:
    run = logged(benchmark, "beta/PANet/5-shot/seed1")
    rows = rows_of(table, "beta", "PANet", 5, 1)
    dice = crossed_bootstrap(*grid(rows, "dice"))
    assert [run.summary[f"lesion_dice{end}"] for end in ("", "_low", "_high")] == pytest.approx(
        [dice.estimate, dice.low, dice.high], abs=1e-12
    )
    assert dice.low < dice.estimate < dice.high
    for score in ("iou", "hd95", "nsd", "detected"):
        assert run.summary[score] == pytest.approx(np.nanmean(np.nanmean(grid(rows, score)[0], axis=0)), abs=1e-12)
    normals = {row["query"]: [] for row in rows if not row["lesion"]}
    for row in rows:
        if not row["lesion"]:
            normals[row["query"]].append(row["false_positive"])
    assert run.summary["false_positive"] == pytest.approx(np.mean([np.mean(seen) for seen in normals.values()]))
    (row,) = [row for row in summarise(table, TARGETS) if (row.target, row.method, row.shot) == ("beta", "PANet", 5)]
    assert run.summary["lesion_dice_over_seeds"] == row.dice.estimate
    assert run.summary["lesion_dice_over_seeds_low"] == row.dice.low
    assert not any(isinstance(value, float) and math.isnan(value) for value in run.summary.values())


def test_a_run_is_a_point_of_its_methods_line_over_shots(benchmark: Path) -> None:
    run = logged(benchmark, "alpha/PANet/1-shot/seed0")
    (point,) = run.history
    assert point["shot"] == 1
    assert {name: point[name] for name in ("lesion_dice", "lesion_dice_low", "lesion_dice_high")} == {
        name: run.summary[name] for name in ("lesion_dice", "lesion_dice_low", "lesion_dice_high")
    }


def test_a_run_holds_its_rows(benchmark: Path, table: pa.Table) -> None:
    run = logged(benchmark, "alpha/PANet swapped/1-shot/seed1")
    names = ("draw", "query", "patient", "label", "dice", "iou", "hd95", "nsd", "detected", *FALSE)
    shown = run_identities(benchmark)
    expected = [
        {name: None if row[name] != row[name] else row[name] for name in names}
        | {"query": shown.image(row["query"]), "patient": shown.patient(row["patient"])}
        for row in rows_of(table, "alpha", "PANet swapped", 1, 1)
    ]
    assert run.table("queries") == expected
    assert {row["dice"] for row in expected if row["label"] == "normal"} == {None}


def test_a_run_says_what_it_is(benchmark: Path) -> None:
    run = logged(benchmark, "alpha/PANet/5-shot/seed0")
    assert (run.record["run_group"], run.record["job_type"]) == ("made", "benchmark")
    assert run.config == {
        "benchmark": "made",
        "target": "alpha",
        "method": "PANet",
        "kind": "prototypes",
        "model": "panet",
        "shot": 5,
        "seed": 0,
        "trained_on": "sources",
        "control": "none",
        "control_of": "none",
        "options": {"temperature": 20},
        "network": {"network": "panet", "levels": [2]},
        "protocol": {"draws": 2},
    }
    control = logged(benchmark, "alpha/PANet swapped/5-shot/seed0")
    assert (control.config["control"], control.config["control_of"]) == ("swapped", "PANet")
    assert logged(benchmark, "alpha/empty/0-shot/seed0").config["model"] == "none"


def test_cases_are_pictures_with_masks(benchmark: Path) -> None:
    run = logged(benchmark, "alpha/PANet/5-shot/seed1")
    case, shown = read_gallery(benchmark)[0], run_identities(benchmark).image("alpha/p0-0")
    assert run.summary["cases.captions"] == [f"worst: {shown}, benign, Dice 0.75, draw 0"]
    (image,) = run.summary["cases.filenames"]
    assert (np.asarray(Image.open(run.folder / "files" / image).convert("L")) == case.query.image).all()
    (masks,) = run.summary["cases.all_masks"]
    for name, mask in (("truth", case.query.mask), ("prediction", case.prediction)):
        assert (np.asarray(Image.open(run.folder / "files" / masks[name]["path"])) == mask).all()
    assert "cases.captions" not in logged(benchmark, "alpha/PANet/1-shot/seed1").summary


def test_a_second_call_logs_nothing_twice(tmp_path: Path, table: pa.Table) -> None:
    few = table.slice(0, 30)
    first = log(tmp_path, few)
    assert set(first) == set(index(tmp_path))
    assert log(tmp_path, few) == []
    assert set(first) == set(index(tmp_path))
    assert len(folders_of(tmp_path)) == len(first) > 1


def test_ids_depend_on_the_results_and_not_on_where_they_lie(benchmark: Path, tmp_path: Path, table: pa.Table) -> None:
    of_one_target = table.filter(pc.equal(table["target"], "alpha"))
    shuffled = of_one_target.take(np.random.default_rng(0).permutation(len(of_one_target)))
    assert set(log(tmp_path / "there", shuffled)) < set(index(benchmark))
    assert set(log(tmp_path / "renamed", of_one_target, "another")).isdisjoint(index(benchmark))
    dice = pc.multiply(of_one_target["dice"], 0.5)
    changed = of_one_target.set_column(of_one_target.schema.get_field_index("dice"), "dice", dice)
    same = set(log(tmp_path / "changed", changed)) & set(index(benchmark))
    assert {index(benchmark)[run] for run in same} == {"alpha/empty/0-shot/seed0"}  # half of nothing is nothing


def test_new_results_are_logged_beside_old_ones(tmp_path: Path, table: pa.Table) -> None:
    first = log(tmp_path, table.filter(pc.equal(table["target"], "alpha")))
    second = log(tmp_path, table)
    assert len(first) == len(second) == len(folders_of(tmp_path)) // 2


def test_the_first_failure_ends_it_with_one_warning(
    tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = wandb.Run.finish
    ended: list[str] = []

    def finish(run: wandb.Run, exit_code: int = 0) -> None:
        if len(ended) == 2:
            raise wandb.errors.CommError("gone")
        ended.append(run.id)
        whole(run, exit_code=exit_code)

    monkeypatch.setattr(wandb.Run, "finish", finish)
    few = table.filter(pc.equal(table["target"], "alpha"))
    assert log(tmp_path, few) == ended
    warnings = warnings_of(caplog)
    assert warnings == ["wandb: gone; the results are complete without it"]
    monkeypatch.setattr(wandb.Run, "finish", whole)
    wandb.teardown()  # as at the end of a process
    assert len(log(tmp_path, few)) == len(set(index(tmp_path).values())) - 2 == 7


def test_trainings_are_logged_unless_they_were_live(
    linear_phantoms: Collection, tmp_path: Path, table: pa.Table
) -> None:
    models = tmp_path / "models"
    config = train_config("unet", steps=2)
    for name, seed, tracking in (("unet-seed0", 0, TrackingConfig(to="wandb")), ("unet-seed1", 1, TrackingConfig())):
        changed = config.model_copy(update={"tracking": tracking, "seed": seed, "name": name})
        train(changed, models / name, silent(), linear_phantoms, group="made")
    few = table.slice(0, 40)
    for _ in range(2):
        log(tmp_path, few)
    live, later = (read_run(folders_of(models / name)[0]) for name in ("unet-seed0", "unet-seed1"))
    assert [len(folders_of(models / name)) for name in ("unet-seed0", "unet-seed1")] == [1, 1]
    assert later.record["job_type"] == "train"
    assert later.record["run_group"] == live.record["run_group"] == "made"
    assert (live.name, later.name) == ("unet-seed0", "unet-seed1")
    lines = map(json.loads, (models / "unet-seed1" / "metrics.jsonl").read_text().splitlines())
    assert later.history == [{"_step": line.pop("step"), **line} for line in lines]
    assert later.config["seed"] == 1
