"""`fewshot train`, `finetune` and `evaluate` one after the other, on a clinic's folder; and what can be wrong there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from episodes.phantoms.layouts import write_bus_uclm, write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.checkpoints import load_checkpoint, save_checkpoint
from tests.cli.conftest import Ended, Fewshot
from tests.cli.test_errors import FAILED, WRONG_USE, assert_matches, complaint
from tests.fewshot.small_networks import SMALL

CLASSIFIER = {
    "network": "multitask-unet",
    "levels": [1, 2],
    "output_stride": 8,
    "options": {"decoder_channels": [16], "hidden": [16], "label_dropout": [0.2]},
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images of 8 patients, of whom one is healthy."""
    root = tmp_path_factory.mktemp("data") / "clinic"
    write_folder(generate(PhantomSpec("linear", 24, size=64)), root)
    return root


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three annotated images of another scanner."""
    root = tmp_path_factory.mktemp("data") / "annotated"
    write_folder(generate(PhantomSpec("portable", 3, size=64)), root)
    return root


@pytest.fixture
def config(tmp_path: Path, cache: Path, clinic: Path) -> Path:
    """`classifier.yaml`, a multitask U-Net that keeps three tenths of the clinic's images for a test."""
    tree = {
        "name": "classifier",
        "data_root": str(clinic.parent),
        "datasets": {"ours": {"reader": "folder", "root": clinic.name}},
        "sources": ["ours"],
        "image_size": 64,
        "cache": str(cache),
        "test_share": 0.3,
        "encoder": {"name": "test_efficientnet"},
        "model": CLASSIFIER,
        "train": {"epochs": 1, "batch_size": 6, "balance": "labels"},
    }
    path = tmp_path / "classifier.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


Train = Callable[..., Path]


@pytest.fixture
def train(fewshot: Fewshot, config: Path) -> Train:
    def run(*overrides: str) -> Path:
        ended = fewshot("train", config.name, *overrides)
        assert ended.status == 0, ended.err
        return Path(ended.out.strip())

    return run


def numbers(ended: Ended) -> dict[str, Any]:
    assert ended.status == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


# One after the other


def test_a_model_is_judged_on_its_test_part_and_elsewhere(
    fewshot: Fewshot, train: Train, clinic: Path, annotated: Path, tmp_path: Path
) -> None:
    checkpoint = train()
    test_images = load_checkpoint(checkpoint).facts["test_images"]
    assert 4 <= len(test_images) <= 10
    ended = fewshot("evaluate", checkpoint, "--data", clinic, "-d", "folder", "--out", "judged")
    assert ended.status == 0, ended.err
    assert ended.out == (tmp_path / "judged" / "evaluation.md").read_text() + "\njudged\n"
    assert ended.out.startswith("folder: ")
    assert "**lesion Dice**, mean over lesion images" in ended.out
    assert "| malignant | " in ended.out
    files = {path.name for path in (tmp_path / "judged").iterdir()}
    assert {"cases.png", "confusion.png", "roc_images.png", "training.png", "images.csv"} <= files
    masks = sorted(f"folder/{path.stem}" for path in (tmp_path / "judged" / "masks").iterdir())
    assert len(masks) == len(test_images)

    everything = fewshot(
        "evaluate", checkpoint, "--data", clinic, "-d", "folder", "--part", "all", "--out", "all", "--json"
    )
    assert numbers(everything)["n_images"] == 24
    assert everything.out == (tmp_path / "all" / "evaluation.json").read_text()
    elsewhere = fewshot("evaluate", checkpoint, "--data", annotated, "-d", "folder", "--out", "elsewhere", "--json")
    assert (numbers(elsewhere)["n_images"], numbers(elsewhere)["dataset"]) == (3, "folder")


def test_several_checkpoints_and_options_of_the_method(fewshot: Fewshot, train: Train, clinic: Path) -> None:
    first, second = train(), train("seed=1", "name=second")
    words = ("--data", clinic, "-d", "folder", "--out", "judged", "--json")
    found = numbers(fewshot("evaluate", first, "--also", second, *words, "flips=true", "dropout_samples=2"))
    assert found["checkpoints"] == [str(first), str(second)]
    assert found["options"] == {"flips": True, "dropout_samples": 2}
    assert found["uncertainty"]["mean_disagreement"] > 0
    refused = fewshot("evaluate", first, *words)
    assert_matches(
        complaint(refused, FAILED), "judged: exists already; choose another name, or replace it with --overwrite"
    )
    assert numbers(fewshot("evaluate", first, *words, "--overwrite"))["options"] == {}


def test_a_fine_tuned_model_is_judged_without_the_images_that_it_was_shown(
    fewshot: Fewshot, train: Train, annotated: Path, clinic: Path, tmp_path: Path
) -> None:
    checkpoint = train()
    tuned = fewshot("finetune", checkpoint, "--support", annotated, "--shots", 2, "--out", "a.safetensors", "steps=1")
    assert (tuned.status, tuned.out) == (0, "a.safetensors\n")
    ended = fewshot("evaluate", "a.safetensors", "--data", annotated, "-d", "folder", "--out", "same")
    assert_matches(
        complaint(ended, FAILED), "every patient has an image that was trained on or is among the annotated ones"
    )
    kept = fewshot("evaluate", "a.safetensors", "--data", clinic, "-d", "folder", "--out", "clinic", "--json")
    assert numbers(kept)["n_images"] == len(load_checkpoint(checkpoint).facts["test_images"])


def test_a_few_shot_model_is_judged_after_adapting(
    fewshot: Fewshot, configs: Path, annotated: Path, clinic: Path
) -> None:
    checkpoint = fewshot("train", "train.yaml", "train.steps=1").out.strip()
    words = ("evaluate", checkpoint, "--data", clinic, "-d", "folder", "--out", "judged", "--json")
    assert_matches(complaint(fewshot(*words), FAILED), "'prototypes' needs annotated images; give .* as --support")
    found = numbers(fewshot(*words, "--support", annotated, "--shots", 1))
    # It was trained on the same scanner's first twelve phantoms, which are known again under other names.
    assert (found["n_images"], found["shots"]) == (12, 1)


# What can be wrong


def nothing_was_written(folder: Path) -> bool:
    return not any((folder / name).exists() for name in ("runs", "judged", "out.safetensors"))


def test_a_dataset_without_a_label_that_the_model_is_to_name(fewshot: Fewshot, config: Path, clinic: Path) -> None:
    without = config.parent / "without"
    shutil.copytree(clinic, without)
    table = without / "metadata.csv"
    lines = table.read_text().splitlines()
    for line in [line for line in lines if ",normal," in line]:
        for path in without.glob(f"*/{line.split(',')[0]}*"):
            path.unlink()
        lines.remove(line)
    table.write_text("\n".join(lines) + "\n")
    ended = fewshot("train", config.name, f"datasets.ours.root={without}")
    message = complaint(ended, WRONG_USE)
    assert_matches(message, r"the train part of the sources has no normal image, which the model \(MultitaskUNet\)")
    assert nothing_was_written(config.parent)


def test_a_validation_without_a_label_that_the_model_is_to_name(fewshot: Fewshot, config: Path) -> None:
    ended = fewshot("train", config.name, "train.validation={share: 0.2}")
    assert_matches(complaint(ended, WRONG_USE), "the validation part of the sources has no normal image")
    assert nothing_was_written(config.parent)


@pytest.mark.parametrize(
    ("overrides", "status", "message"),
    [
        (["train.steps=5"], WRONG_USE, r"train: give either `steps` or `epochs`"),
        (["train.epochs=null"], WRONG_USE, r"train: give either `steps` or `epochs`"),
        (["train.final_rate=0.1"], WRONG_USE, r"train: final_rate: 0\.1 is more than learning_rate, 0\.001"),
        (["train.labels=[]"], WRONG_USE, r"train\.labels: "),
        (["train.labels=[cyst]"], WRONG_USE, r"train\.labels\.0: "),
        (["test_share=1"], WRONG_USE, r"test_share: .*less than 1"),
        (["test_share=0.6", "train.validation={share: 0.4}"], WRONG_USE, r"test_share and .*share: 1 leaves no images"),
        (
            ["train.labels=[unknown]"],
            FAILED,
            r"the train part of .* has \d+ images, and none of train\.labels, unknown",
        ),
        (["model.options.labels=[benign]"], WRONG_USE, r"labels: benign; expected two or three different ones"),
        (["model.options.labels=[benign, cyst]"], WRONG_USE, r"multitask-unet options: labels\.1: "),
        (["encoder={name: plain, weights: imagenet}"], WRONG_USE, r"encoder: weights: the plain encoder is trained"),
        (["encoder.options={width: 8}"], WRONG_USE, r"encoder: options: those are of the plain encoder"),
    ],
)
def test_a_training_that_cannot_be_is_refused_at_once(
    fewshot: Fewshot, config: Path, overrides: list[str], status: int, message: str
) -> None:
    assert_matches(complaint(fewshot("train", config.name, *overrides), status), message)
    assert nothing_was_written(config.parent)


def test_a_mask_of_an_unknown_colour(fewshot: Fewshot, config: Path) -> None:
    root = config.parent / "BUS-UCLM"
    write_bus_uclm(generate(PhantomSpec("linear", 12, size=64)), root)
    mask = next(path for path in sorted(root.rglob("masks/*.png")))
    Image.fromarray(np.full((64, 64, 3), (0, 0, 255), np.uint8)).save(mask)
    words = (f"datasets.ours.root={root}", "datasets.ours.reader=bus_uclm")
    message = complaint(fewshot("train", config.name, *words), FAILED)
    assert_matches(message, rf"{mask.name}: the colour \(0, 0, 255\) is unknown; expected black, green")
    assert nothing_was_written(config.parent)


@pytest.mark.parametrize("command", ["evaluate", "finetune"])
def test_a_checkpoint_of_another_architecture(
    fewshot: Fewshot, train: Train, clinic: Path, annotated: Path, command: str, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(train())
    _, other = SMALL["deep-resnet"]
    facts = dict(checkpoint.facts) | {
        "model": other.model_dump(mode="json")
        | {"levels": [1, 2], "options": {"decoder_channels": [32], "auxiliary_weights": [0.3]}}
    }
    save_checkpoint(tmp_path / "odd.safetensors", checkpoint.tensors, facts)
    words = {
        "evaluate": ("--data", clinic, "-d", "folder", "--out", "judged"),
        "finetune": ("--support", annotated, "--out", "out.safetensors"),
    }
    message = complaint(fewshot(command, "odd.safetensors", *words[command]), FAILED)
    assert_matches(message, r"odd\.safetensors: does not fit its network: \d+ tensors are missing, such as \S+; \d+")
    assert len(message) < 400
    assert not (tmp_path / "judged").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("masks", r"annotated lacks the folders images/, masks/; give the folder"),
        ("masks/portable_0001.png", r"portable_0001\.png"),
        (None, r"annotated: holds 3 images, of which 4 were asked for; lower --shots"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "finetune"])
def test_annotated_images_that_do_not_suffice(
    fewshot: Fewshot,
    train: Train,
    clinic: Path,
    annotated: Path,
    command: str,
    broken: str | None,
    message: str,
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(annotated, tmp_path / "annotated")
    if broken is not None:
        path = folder / broken
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    words = {
        "evaluate": ("--data", clinic, "-d", "folder", "--out", "judged"),
        "finetune": ("--out", "out.safetensors"),
    }
    shots = () if broken else ("--shots", 4)
    ended = fewshot(command, train(), "--support", folder, *shots, *words[command])
    assert_matches(complaint(ended, FAILED), message)
    assert not (tmp_path / "judged").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("--data nowhere -d folder --out judged", FAILED, "nowhere does not exist"),
        ("--data {clinic} -d busi --out judged", FAILED, "lacks|no image"),
        ("--data {clinic} -d folder --out judged --method zeroshot", WRONG_USE, "did you mean 'zero-shot'"),
        ("--data {clinic} -d folder --out judged --method prototypes --support {clinic}", WRONG_USE, "method needs a"),
        ("--data {clinic} -d folder --out judged --shots 2", FAILED, "--shots says .* give their folder as --support"),
        ("--data {clinic} -d folder --out judged --name ../a", WRONG_USE, "should match pattern"),
        ("--data {clinic} -d folder --out judged --also none.safetensors", FAILED, "no such checkpoint"),
        ("--data {clinic} -d folder --out judged flip=true", WRONG_USE, "flip: unknown key; did you mean 'flips'"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(
    fewshot: Fewshot, train: Train, clinic: Path, words: str, status: int, message: str, tmp_path: Path
) -> None:
    ended = fewshot("evaluate", train(), *words.format(clinic=clinic).split())
    assert_matches(complaint(ended, status), message)
    assert not (tmp_path / "judged").exists()
