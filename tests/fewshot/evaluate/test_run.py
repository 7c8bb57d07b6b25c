"""Evaluations from checkpoint to folder: who may be judged on what, and what is left behind."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from baselines.prediction import lesion_logits
from episodes.errors import UserError
from episodes.sampling.episode import image_tensor
from episodes.storage.store import Store
from fewshot.config.parsing import ConfigError
from fewshot.evaluate import run as run_module
from fewshot.evaluate.run import EvaluationRequest, evaluate_checkpoints, unseen_records
from fewshot.inference.support import record_hashes
from fewshot.training.finetuning import finetune_checkpoint
from tests.fewshot.evaluate.conftest import N_IMAGES, Evaluate, Judged, trained_on, write_checkpoint
from tests.fewshot.small_networks import small_network
from tests.fewshot.tiny_runs import silent


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By network, and two further U-Nets."""
    folder = tmp_path_factory.mktemp("checkpoints")
    names = ("unet", "panet", "deep-resnet", "multitask-unet", "plain-multitask-unet")
    made = {name: write_checkpoint(folder / f"{name}.safetensors", name) for name in names}
    return made | {
        f"unet{seed}": write_checkpoint(folder / f"unet{seed}.safetensors", "unet", seed=seed) for seed in (1, 2)
    }


@pytest.fixture
def support(data: Path, tmp_path: Path) -> Path:
    """Two annotated images of the data, of one patient, under other names."""
    for folder in ("images", "masks"):
        (tmp_path / "support" / folder).mkdir(parents=True)
        for number in (0, 1):
            shutil.copy(data / folder / f"linear_{number:04}.png", tmp_path / "support" / folder / f"case{number}.png")
    return tmp_path / "support"


# What is left behind


def test_one_checkpoint_leaves_numbers_figures_and_masks(multitask: Judged, store: Store) -> None:
    assert sorted(path.name for path in multitask.folder.iterdir()) == [
        "calibration.png",
        "cases.png",
        "confusion.png",
        "evaluation.json",
        "evaluation.md",
        "images.csv",
        "masks",
        "roc_images.png",
        "roc_pixels.png",
    ]
    assert len(list((multitask.folder / "masks").iterdir())) == len(store.records)
    assert {path.name[0] for path in multitask.folder.parent.iterdir()} == {"o", "j"}  # nothing hidden beside it
    head = {key: multitask.numbers[key] for key in ("dataset", "part", "method", "support")}
    assert head == {"dataset": "folder", "part": "test", "method": None, "support": None}


def test_a_training_s_curves_are_drawn_where_it_left_its_metrics(evaluate: Evaluate, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "run" / "checkpoint.safetensors", "unet")
    lines = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in (1, 2, 3)]
    (path.parent / "metrics.jsonl").write_text("".join(lines))
    assert (evaluate(path, figures=True).folder / "training.png").is_file()


def test_equal_evaluations_are_equal(evaluate: Evaluate, checkpoints: dict[str, Path]) -> None:
    first, again = (evaluate(checkpoints["unet"], out=name, figures=True) for name in ("one", "two"))
    for name in ("evaluation.json", "images.csv", "evaluation.md", "cases.png"):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()


# Several predictions


def test_an_ensemble_is_judged_by_its_mean(evaluate: Evaluate, checkpoints: dict[str, Path], store: Store) -> None:
    judged = evaluate(checkpoints["unet"], checkpoints["unet1"], checkpoints["unet2"])
    with torch.inference_mode():
        images = image_tensor(np.array(store.images[:]))
        lesion = torch.stack([small_network("unet", seed).eval()(images).sigmoid() for seed in range(3)]).mean(0)
    masks = (lesion > 0.5).numpy()
    agreement = [(judged.mask(record.id) == masks[row]).mean() for row, record in enumerate(store.records)]
    assert min(agreement) > 0.999
    assert all(float(row["disagreement"]) > 0 for row in judged.images)
    for row in judged.images:
        written = Image.open(judged.folder / "uncertainty" / f"{row['image'].split('/')[1]}.png")
        assert np.asarray(written, np.float64).mean() / 65535 == pytest.approx(float(row["entropy"]), abs=1e-4)


def test_members_that_differ_are_refused(evaluate: Evaluate, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"deep-resnet.*predicts the classes benign, malignant, and .*unet.* lesion;"):
        evaluate(checkpoints["unet"], checkpoints["deep-resnet"])
    with pytest.raises(
        UserError, match=r"predicts the labels normal, benign, malignant, and .* the labels benign, mal"
    ):
        evaluate(checkpoints["multitask-unet"], checkpoints["plain-multitask-unet"])
    larger = write_checkpoint(tmp_path / "larger.safetensors", "unet", image_size=96)
    with pytest.raises(UserError, match=r"larger.*predicts at 96 pixels, and .* at 64 pixels; an ensemble"):
        evaluate(checkpoints["unet"], larger)
    with pytest.raises(UserError, match=r"unet\.safetensors: is given twice"):
        evaluate(checkpoints["unet"], checkpoints["unet"])
    assert not (tmp_path / "judged").exists()


def test_options_are_the_method_s(evaluate: Evaluate, checkpoints: dict[str, Path], store: Store) -> None:
    judged = evaluate(checkpoints["deep-resnet"], options={"flips": True})
    network = small_network("deep-resnet").eval()
    with torch.inference_mode():
        images = image_tensor(np.array(store.images[:]))
        sides = (
            lesion_logits(network.predict(images).classes),
            lesion_logits(  # type: ignore[operator]
                network.predict(images.flip(-1)).classes.flip(-1)  # type: ignore[operator]
            ),
        )
    lesion = (sides[0].sigmoid() + sides[1].sigmoid()) / 2
    for row, record in enumerate(store.records):
        assert (judged.mask(record.id) == (lesion[row] > 0.5).numpy()).mean() > 0.999
    assert (judged.folder / "uncertainty").is_dir()
    with pytest.raises(ConfigError, match="flip: unknown key; did you mean 'flips'"):
        evaluate(checkpoints["deep-resnet"], options={"flip": True}, out="other")
    with pytest.raises(ConfigError, match="UNet was trained without dropout"):
        evaluate(checkpoints["unet"], options={"dropout_samples": 3}, out="other")


# Annotated images


def test_a_few_shot_model_adapts_and_is_not_judged_on_the_patient_it_was_shown(
    evaluate: Evaluate, checkpoints: dict[str, Path], support: Path, store: Store
) -> None:
    judged = evaluate(checkpoints["panet"], support=support, shots=2)
    shown = store.records[0].patient_id
    assert judged.assessment.n_images == sum(record.patient_id != shown for record in store.records) < N_IMAGES
    assert all(row["patient"] != shown for row in judged.images)
    assert judged.numbers["shots"] == 2
    everything = evaluate(checkpoints["panet"], support=support, part="all", out="all")
    assert everything.assessment.n_images == N_IMAGES


def test_a_supervised_model_is_fine_tuned_on_them(
    evaluate: Evaluate, checkpoints: dict[str, Path], support: Path, tmp_path: Path
) -> None:
    options = {"steps": 2, "learning_rate": 0.01}
    judged = evaluate(checkpoints["unet"], support=support, options=options)
    tuned = tmp_path / "tuned.safetensors"
    finetune_checkpoint(checkpoints["unet"], support, tuned, ["steps=2", "learning_rate=0.01"], silent())
    again = evaluate(tuned, out="again")
    assert judged.images == again.images  # also without the patient who was shown in fine-tuning
    assert judged.assessment.n_images < N_IMAGES


def test_what_does_not_go_with_annotated_images_is_refused(
    evaluate: Evaluate, checkpoints: dict[str, Path], support: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"panet\.safetensors: the method 'prototypes' needs annotated .* --support"):
        evaluate(checkpoints["panet"])
    with pytest.raises(UserError, match=r"the method 'zero-shot' does not use annotated images; leave out --support"):
        evaluate(checkpoints["unet"], method="zero-shot", support=support)
    with pytest.raises(UserError, match="--shots says how many annotated images to take; give their folder"):
        evaluate(checkpoints["unet"], shots=2)
    with pytest.raises(UserError, match="holds 2 images, of which 3 were asked for"):
        evaluate(checkpoints["panet"], support=support, shots=3)
    with pytest.raises(ConfigError, match=r"method needs a model of kind|method needs a supervised model"):
        evaluate(checkpoints["unet"], method="prototypes", support=support)
    assert not (tmp_path / "judged").exists()


def test_nobody_left_to_judge_on_is_told(evaluate: Evaluate, checkpoints: dict[str, Path], support: Path) -> None:
    with pytest.raises(UserError, match="every patient has an image that was trained on or is among the anno"):
        evaluate(checkpoints["panet"], support=support, data=support)


# Trained on the dataset


def test_of_a_source_the_test_part_is_judged_wherever_its_files_lie_by_now(
    evaluate: Evaluate, data: Path, store: Store, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    test_ids = [record.id for record in store.records[5:9]]
    path = write_checkpoint(tmp_path / "c.safetensors", "unet", **trained_on(store, test_ids))
    judged = evaluate(path, data=moved, name="clinic 7")
    assert [row["image"] for row in judged.images] == [name.replace("folder/", "clinic 7/") for name in test_ids]
    assert judged.numbers["dataset"] == "clinic 7"
    assert evaluate(path, part="all", out="all").assessment.n_images == N_IMAGES


def test_an_ensemble_is_judged_on_what_none_of_its_members_saw(
    evaluate: Evaluate, store: Store, tmp_path: Path
) -> None:
    patients = sorted({record.patient_id for record in store.records})

    def of(*chosen: str) -> list[str]:
        return [record.id for record in store.records if record.patient_id in chosen]

    kept = {"a": of(*patients[:2]), "b": of(*patients[1:3]), "c": of(*patients[3:])}
    paths = {
        name: write_checkpoint(tmp_path / f"{name}.safetensors", "unet", seed=seed, **trained_on(store, test_ids))
        for seed, (name, test_ids) in enumerate(kept.items())
    }
    judged = evaluate(paths["a"], paths["b"])
    assert [row["image"] for row in judged.images] == of(patients[1])
    with pytest.raises(UserError, match="test parts have no image in common; judge them one by one"):
        evaluate(paths["a"], paths["c"], out="none")


def test_a_dataset_that_was_trained_on_whole_is_refused(evaluate: Evaluate, store: Store, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "c.safetensors", "unet", **trained_on(store, []))
    with pytest.raises(UserError, match=r"every patient has an image that was trained on.*test_share.*--part all"):
        evaluate(path)
    assert not (tmp_path / "judged").exists()


def test_of_data_that_were_trained_on_in_part_the_other_patients_are_judged(
    evaluate: Evaluate, store: Store, tmp_path: Path
) -> None:
    facts = trained_on(store, [])
    first = record_hashes([store])[store.records[0].id]
    path = write_checkpoint(tmp_path / "c.safetensors", "unet", **facts | {"seen_images": [first]})
    others = [one.id for one in store.records if one.patient_id != store.records[0].patient_id]
    assert [row["image"] for row in evaluate(path).images] == others


def test_a_published_dataset_whose_files_have_changed_since_is_announced(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    facts = trained_on(store, [], "bus_bra") | {"seen_images": ["0" * 16]}
    for reader, warned in (("busi", False), ("bus_bra", True)):
        assert len(unseen_records(store, reader, {Path("c.safetensors"): facts})) == len(store.records)
        assert ("no image here is known again" in caplog.text) is warned


# The folder


def test_nothing_is_overwritten_unasked(evaluate: Evaluate, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    judged = evaluate(checkpoints["unet"])
    before = judged.folder / "left over"
    before.write_text("of the first")
    with pytest.raises(UserError, match="judged: exists already; choose another name, or replace it with --overwrite"):
        evaluate(checkpoints["unet1"])
    assert before.exists()
    assert evaluate(checkpoints["unet1"], overwrite=True).folder == judged.folder
    assert not before.exists()


def test_what_is_no_evaluation_is_never_overwritten(
    evaluate: Evaluate, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "judged").mkdir()
    (tmp_path / "judged" / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="judged: holds no evaluation, and --overwrite would delete it"):
        evaluate(checkpoints["unet"], overwrite=True)
    assert (tmp_path / "judged" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_evaluation_leaves_what_was_there(
    overwrite: bool,
    checkpoints: dict[str, Path],
    data: Path,
    multitask: Judged,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "judged"
    if overwrite:
        shutil.copytree(multitask.folder, out)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_cases", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_checkpoints(
            EvaluationRequest([checkpoints["unet"]], data, "folder"), out, silent(), overwrite=overwrite
        )
    assert [path.name for path in tmp_path.iterdir()] == (["judged"] if overwrite else [])
    if overwrite:
        assert (out / "evaluation.json").read_bytes() == (multitask.folder / "evaluation.json").read_bytes()


def test_a_dataset_without_any_label_is_judged_by_its_masks(
    evaluate: Evaluate, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """Of lesions whose kind nobody knows, and of labels that no image has, there is nothing to say."""
    root = tmp_path / "unlabelled"
    shutil.copytree(data, root)
    with (root / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["label"] == "normal":
            for path in root.glob(f"*/{row['image']}*"):
                path.unlink()
    (root / "metadata.csv").unlink()
    for name in ("deep-resnet", "plain-multitask-unet"):
        found = evaluate(checkpoints[name], data=root, out=name, figures=True)
        assert found.numbers["n_normal"] == 0
        assert (found.numbers["classes"], found.numbers["labels"]) == ([], None)
        assert not (found.folder / "confusion.png").exists()
        assert "undefined" not in (found.folder / "evaluation.md").read_text()
