"""`--wandb`: what `fewshot train`, `finetune` and `evaluate` log, read back from the offline files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.results.identities import run_identities
from tests.cli.conftest import Fewshot
from tests.fewshot.tracking.offline_wandb import folders_of, offline, read_only_run

__all__ = ["offline"]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images of three patients of another scanner."""
    root = tmp_path_factory.mktemp("data") / "clinic"
    write_folder(generate(PhantomSpec("portable", 9, size=64)), root)
    return root


def trained(fewshot: Fewshot, *words: str) -> Path:
    ended = fewshot("train", "unet.yaml", *words)
    assert ended.status == 0, ended.err
    return Path(ended.out.strip())


def test_train_logs_its_curves(fewshot: Fewshot, configs: Path) -> None:
    folder = trained(fewshot, "--wandb").parent
    run = read_only_run(folder)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert run.history == [{"_step": line.pop("step"), **line} for line in lines]
    assert (run.name, run.record["job_type"]) == ("unet", "train")
    assert run.config["tracking"]["to"] == "wandb"


def test_the_configuration_asks_as_well_and_the_flag_has_the_last_word(fewshot: Fewshot, configs: Path) -> None:
    settings = yaml.safe_load((configs / "unet.yaml").read_text())
    (configs / "unet.yaml").write_text(yaml.safe_dump({**settings, "tracking": {"to": "wandb"}}))
    for words, count in (
        (("name=a",), 1),
        (("name=b", "tracking.to=local"), 0),
        (("name=c", "tracking.to=local", "--wandb"), 1),
    ):
        assert len(folders_of(trained(fewshot, *words).parent)) == count


def test_what_else_than_local_and_wandb_is_refused(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("train", "unet.yaml", "tracking.to=mlflow")
    assert ended.status == 2
    assert "tracking.to" in ended.message
    assert "local" in ended.message


def test_how_to_upload_is_said(fewshot: Fewshot, configs: Path) -> None:
    ended = fewshot("train", "unet.yaml", "--wandb")
    assert "wandb: logged offline; to upload it: wandb sync runs/unet/wandb/offline-run-*" in ended.err


def test_a_failing_wandb_is_a_warning(fewshot: Fewshot, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sideways")
    ended = fewshot("train", "unet.yaml", "--wandb")
    assert ended.status == 0
    assert ended.message.count("the results are complete without it") == 1
    assert "warning: wandb: " in ended.err


def test_without_the_flag_nothing_is_written(fewshot: Fewshot, configs: Path, clinic: Path) -> None:
    checkpoint = trained(fewshot)
    fewshot("finetune", checkpoint, "--support", clinic, "--shots", 1, "--out", "a.safetensors", "steps=1")
    fewshot("evaluate", checkpoint, "--data", clinic, "-d", "folder", "--out", "judged")
    assert (configs / "judged" / "evaluation.md").is_file()
    assert not list(configs.rglob("wandb"))


def test_finetune_logs_what_it_was_shown(fewshot: Fewshot, configs: Path, clinic: Path) -> None:
    out = configs / "tuned" / "mine.safetensors"
    words = ("--support", clinic, "--shots", 2, "--out", out, "--wandb", "steps=3")
    ended = fewshot("finetune", trained(fewshot), *words)
    assert ended.status == 0, ended.err
    run = read_only_run(out.parent)
    assert (run.name, run.record["job_type"]) == ("mine", "finetune")
    assert run.config["steps"] == 3
    assert len(run.config["hashes"]) == run.summary["n_support"] == 2


def test_evaluate_logs_scores_images_figures_and_masks(fewshot: Fewshot, configs: Path, clinic: Path) -> None:
    ended = fewshot("evaluate", trained(fewshot), "--data", clinic, "-d", "folder", "--out", "judged", "--wandb")
    assert ended.status == 0, ended.err
    judged = configs / "judged"
    run = read_only_run(judged)
    assert (run.name, run.record["job_type"], run.record["run_group"]) == ("judged", "evaluate", "folder")
    numbers = json.loads((judged / "evaluation.json").read_text())
    for end, part in (("", "estimate"), ("_low", "low"), ("_high", "high")):
        assert run.summary[f"lesion_dice{end}"] == numbers["lesion"]["dice"][part]
        assert run.summary[f"hd95{end}"] == numbers["lesion"]["hd95"][part]
    assert run.summary["pixels_auc"] == numbers["roc"]["auc"]
    with (judged / "images.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    found = run.table("images")
    shown = run_identities(judged)
    assert [row["image"] for row in found] == [shown.image(row["image"]) for row in expected]
    assert [row["patient"] for row in found] == [shown.patient(row["patient"]) for row in expected]
    assert [row["dice"] for row in found] == [float(row["dice"]) if row["dice"] else None for row in expected]
    figures = {path.stem for path in judged.glob("*.png")} - {"cases"}
    assert {name.split(".")[0] for name in run.summary if name.startswith("figures/")} == {
        f"figures/{name}" for name in figures
    }
    (*_, masks) = run.summary["cases.all_masks"]
    names = {shown.image(row["image"]): row["image"].split("/")[1] for row in expected}
    name = names[run.summary["cases.captions"][-1].split(":")[0]]
    laid = np.asarray(Image.open(run.folder / "files" / masks["prediction"]["path"])) > 0
    assert (laid == (np.asarray(Image.open(judged / "masks" / f"{name}.png")) > 0)).all()
