"""`fewshot predict` as a user calls it: from training to masks, and what can be wrong."""

import csv
import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.checkpoints import read_facts
from tests.cli.conftest import Ended, Fewshot
from tests.cli.test_errors import FAILED, WRONG_USE, assert_matches, complaint
from tests.episodes.datasets.made_trees import save_mask
from tests.episodes.made_dicom import SECRETS, gradient, write_dicom
from tests.fewshot.predict.conftest import write_checkpoint

N_SCANS = 6


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: write_checkpoint(folder / f"{name}.safetensors", name)
        for name in ("panet", "unet", "maml", "multitask-unet", "deep-resnet", "pyramid-panet")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`annotated`, two images with masks, and `scans/`, six images, whose masks lie in `known/`."""
    root = tmp_path_factory.mktemp("made")
    phantoms = [one for one in generate(PhantomSpec("portable", 16, size=64)) if one.label_map.any()]
    write_folder(phantoms[:2], root / "annotated")
    write_folder(phantoms[2 : 2 + N_SCANS], root / "whole")
    (root / "whole" / "images").rename(root / "scans")
    (root / "whole" / "masks").rename(root / "known")
    return root


@pytest.fixture
def desk(made: Path, checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """The working folder of a call, with copies of everything in it."""
    for folder in ("annotated", "scans", "known"):
        shutil.copytree(made / folder, tmp_path / folder)
    for name, path in checkpoints.items():
        shutil.copy(path, tmp_path / f"{name}.safetensors")
    return tmp_path


def table(desk: Path, out: str = "out") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((desk / out / "predictions.csv").read_text())))


def done(ended: Ended) -> str:
    assert ended.status == 0, ended.err
    return ended.out


# What goes right

PANET = ("predict", "panet.safetensors", "--images", "scans", "--out", "out")


def test_from_a_training_to_masks_and_a_flag_for_what_is_unlike_it(fewshot: Fewshot, configs: Path, desk: Path) -> None:
    assert configs == desk
    checkpoint = Path(done(fewshot("train", "unet.yaml")).strip())
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(desk / "scans" / "zz noise.png")
    ended = fewshot("predict", checkpoint, "--images", "scans", "--out", "out", "--spacing", "0.1")
    assert done(ended).endswith("out/predictions.csv\n")
    assert ended.err.count("warning: Research only, not for clinical use.") == 1
    rows = table(desk)
    assert len(rows) == N_SCANS + 1
    assert all(float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.01, abs=1e-3) for row in rows)
    assert all(float(row["novelty"]) > 0 for row in rows)
    assert float(rows[-1]["novelty"]) > 1
    assert "unlike" in rows[-1]["flags"]
    assert "the image looks unlike those that the model has seen" in rows[-1]["reason"]
    assert read_facts(checkpoint)["image_size"] == 64


@pytest.mark.parametrize(
    ("words", "method"),
    [
        ("panet.safetensors --support annotated", "prototypes"),
        ("panet.safetensors --support annotated --shots 1", "prototypes"),
        ("panet.safetensors --support annotated --method tuned-prototypes steps=2", "tuned-prototypes"),
        ("panet.safetensors --support annotated --adapt finetune steps=2", "tuned-prototypes"),
        ("maml.safetensors --support annotated", "maml"),
        ("maml.safetensors --shots 0", "maml"),
        ("unet.safetensors", "zero-shot"),
        ("unet.safetensors --shots 0 --support annotated flips=true", "zero-shot"),
        ("unet.safetensors --support annotated --adapt finetune steps=2", "fine-tuned"),
        ("unet.safetensors --support annotated --method fine-tuned steps=2 parts=decoder", "fine-tuned"),
        ("multitask-unet.safetensors --support annotated --adapt finetune steps=2", "fine-tuned"),
        ("deep-resnet.safetensors --npy --batch 3", "zero-shot"),
        ("pyramid-panet.safetensors", "zero-shot"),
    ],
)
def test_every_method_predicts(fewshot: Fewshot, desk: Path, words: str, method: str) -> None:
    done(fewshot("predict", *words.split(), "--images", "scans", "--out", "out"))
    assert [row["image"] for row in table(desk)] == sorted(path.name for path in (desk / "scans").iterdir())
    facts = json.loads((desk / "out" / "prediction.json").read_text())
    assert facts["method"] == method
    assert (facts["support"] is None) == ("--support" not in words or "--shots 0" in words)
    with Image.open(desk / "out" / table(desk)[0]["mask"]) as mask:
        assert mask.mode == ("RGB" if words.startswith("deep-resnet") else "L")


def test_classes_of_the_whole_image_are_in_the_table(fewshot: Fewshot, desk: Path) -> None:
    done(fewshot("predict", "multitask-unet.safetensors", "--images", "scans", "--out", "out"))
    for row in table(desk):
        assert row["p_normal"] == ""  # it does not know them
        assert float(row["p_benign"]) + float(row["p_malignant"]) == pytest.approx(1, abs=1e-5)


def test_a_pattern_and_known_masks(fewshot: Fewshot, desk: Path) -> None:
    first = min(path.name for path in (desk / "scans").iterdir())
    words = ("--support", "annotated", "--images", f"scans/{first[:-5]}*.png", "--masks", "known", "--out", "out")
    out = done(fewshot("predict", "panet.safetensors", *words))
    dice = [float(row["dice"]) for row in table(desk)]
    assert f"Lesion Dice {np.mean(dice):.4f}, mean over {len(dice)} images with a lesion" in out


def test_support_images_among_the_images_are_left_out_and_said_so_once(fewshot: Fewshot, desk: Path) -> None:
    (desk / "annotated").rename(desk / "scans" / "annotated")
    ended = fewshot(*PANET, "--support", "scans/annotated")
    done(ended)
    assert len(table(desk)) == N_SCANS
    assert ended.err.count("2 images are support images, and left out") == 1
    assert ended.err.count("are left out: named as a mask, or in a folder of masks") == 1


def test_an_interrupted_call_goes_on(fewshot: Fewshot, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*PANET, "--support", "annotated", "--batch", "2")
    done(fewshot(*words))
    whole = {path.name: path.read_bytes() for path in (desk / "out").rglob("*.*")}
    shutil.rmtree(desk / "out")
    from fewshot.predict.results import ResultFolder

    add, calls = ResultFolder.add, []

    def interrupted(self: ResultFolder, *details: object) -> None:
        calls.append(add(self, *details))  # type: ignore[arg-type]
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultFolder, "add", interrupted)
        assert_matches(complaint(fewshot(*words), 130), "interrupted; the same command goes on from here")
    assert len(table(desk)) == 3
    done(fewshot(*words))
    assert {path.name: path.read_bytes() for path in (desk / "out").rglob("*.*")} == whole


def test_what_dicom_says_of_a_person_is_passed_on_nowhere(
    fewshot: Fewshot, desk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, pixels in (("annotated/images/a", gradient(48, 64)), ("scans/b", 255 - gradient(48, 64))):
        write_dicom(desk / f"{name}.dcm", pixels, patient="HOSPITAL-77-3", facts={"PixelSpacing": [0.1, 0.2]})
    save_mask(desk / "annotated" / "masks" / "a.png", (5, 5, 20, 25), size=(48, 64))
    (desk / "annotated" / "metadata.csv").unlink()  # which has no row for it
    ended = fewshot(*PANET, "--support", "annotated")
    done(ended)
    (row,) = (row for row in table(desk) if row["image"] == "b.dcm")
    assert float(row["area_mm2"]) == pytest.approx(0.02 * int(row["area_px"]), abs=1e-3)
    written = [path.read_bytes() for path in (desk / "out").rglob("*.*")]
    haystack = b"\n".join([*written, ended.out.encode(), ended.err.encode(), caplog.text.encode()])
    assert b"b.dcm" in haystack
    for secret in SECRETS:
        assert secret.encode() not in haystack


# What cannot be


def nothing_was_written(desk: Path) -> bool:
    return not (desk / "out").exists() and not list(desk.glob(".out*"))


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("panet.safetensors", WRONG_USE, r"panet\.safetensors: prototypes needs annotated images; give a folder"),
        ("panet.safetensors --support annotated --shots 0", WRONG_USE, "prototypes needs annotated images"),
        ("panet.safetensors --shots 2", WRONG_USE, "--shots says how many annotated images to take; give their folder"),
        ("panet.safetensors --support annotated --shots 9", FAILED, "holds 2 images, of which 9 were asked for"),
        ("unet.safetensors --support annotated", WRONG_USE, "zero-shot does not use annotated images; add --adapt"),
        ("unet.safetensors --adapt finetune", WRONG_USE, "--adapt finetune needs annotated images"),
        ("unet.safetensors --support annotated --adapt more", WRONG_USE, "'more' is not"),
        ("maml.safetensors --support annotated --adapt finetune", WRONG_USE, "maml trains on the annotated images by"),
        (
            "unet.safetensors --support annotated --adapt finetune --method zero-shot",
            WRONG_USE,
            "a method of its own; leave out --method zero-shot",
        ),
        ("unet.safetensors --method prototypes --support annotated", WRONG_USE, "needs a model of kind PANet"),
        ("unet.safetensors flip=true", WRONG_USE, "flip: unknown key; did you mean 'flips'"),
        ("unet.safetensors image_size=big", WRONG_USE, "image_size: no method has such an option"),
        ("unet.safetensors scans/b.png", WRONG_USE, "'scans/b.png': expected key=value"),
        ("unet.safetensors annotated/metadata.csv", WRONG_USE, "put the pattern of --images in quotes"),
        ("unet.safetensors --spacing 0.1mm", FAILED, "--spacing: '0.1mm' is no size in millimetres"),
        ("unet.safetensors --masks nowhere", FAILED, "--masks nowhere: there is no such folder"),
        ("unet.safetensors --masks annotated", FAILED, "--masks annotated: none of its 4 pictures can be the mask"),
        ("unet.safetensors --batch 0", WRONG_USE, "'--batch'"),
        ("unet.safetensors --device abacus", WRONG_USE, "'abacus' is not available"),
        ("none.safetensors", FAILED, r"none\.safetensors: no such checkpoint"),
        ("panet.safetensors --support nowhere", FAILED, "nowhere does not exist: give the folder"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_writes_nothing(
    fewshot: Fewshot, desk: Path, words: str, status: int, message: str
) -> None:
    ended = fewshot("predict", *words.split(), "--images", "scans", "--out", "out")
    assert_matches(complaint(ended, status), message)
    assert nothing_was_written(desk)


def break_support(folder: Path, how: str) -> None:
    masks = sorted((folder / "masks").iterdir())
    if how == "missing":
        masks[0].unlink()
    elif how == "no masks":
        shutil.rmtree(folder / "masks")
    elif how == "no images":
        for path in (folder / "images").iterdir():
            path.unlink()
    elif how == "no picture":
        next(iter(sorted((folder / "images").iterdir()))).write_text("no picture")
    for mask in masks if how in ("empty", "size") else ():
        with Image.open(mask) as image:
            shown = image.convert("L")
        (shown.point(lambda _: 0) if how == "empty" else shown.resize((32, 32))).save(mask)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("empty", r"folder/portable_\d+, folder/portable_\d+: the mask is empty; outline the lesion or take the image"),
        ("size", r"masks/\S+: is 32 x 32 pixels, but \S+ is 64 x 64; give them one size"),
        ("missing", r"\S+\.png: its mask \S+\.png is missing; restore the mask or remove the image"),
        ("no masks", r"annotated lacks the folders images/, masks/"),
        ("no images", r"annotated"),
        ("no picture", r"cannot be decoded"),
    ],
)
def test_a_support_folder_that_cannot_be_used(fewshot: Fewshot, desk: Path, how: str, message: str) -> None:
    break_support(desk / "annotated", how)
    assert_matches(complaint(fewshot(*PANET, "--support", "annotated"), FAILED), message)
    assert nothing_was_written(desk)


@pytest.mark.parametrize("images", ["nowhere", "empty", "scans/*.dcm"])
def test_where_there_is_no_image_what_was_looked_for_is_said(fewshot: Fewshot, desk: Path, images: str) -> None:
    (desk / "empty").mkdir()
    ended = fewshot("predict", "unet.safetensors", "--images", images, "--out", "out")
    assert_matches(complaint(ended, FAILED), r"--images \S+: (there is no such file|no image there; PNG, JPEG)")
    assert nothing_was_written(desk)


def test_images_that_cannot_be_read_are_listed_and_the_rest_is_done(fewshot: Fewshot, desk: Path) -> None:
    (desk / "scans" / "a text.png").write_text("no picture")
    Image.new("L", (10_000, 10_000)).save(desk / "scans" / "huge.png")
    ended = fewshot("predict", "unet.safetensors", "--images", "scans", "--out", "out")
    assert ended.status == FAILED
    assert_matches(ended.message, r"2 of 8 images could not be read: scans/a text\.png cannot be decoded .*; all are")
    assert len(table(desk)) == N_SCANS
    assert "huge.png" in (desk / "out" / "failed.csv").read_text()
    assert not list((desk / "out" / "masks").glob("*text*"))


def test_results_of_another_model_are_not_touched(fewshot: Fewshot, desk: Path) -> None:
    done(fewshot("predict", "unet.safetensors", "--images", "scans", "--out", "out"))
    before = (desk / "out" / "prediction.json").read_bytes()
    words = (*PANET, "--support", "annotated")
    assert_matches(complaint(fewshot(*words), FAILED), r"out: holds results that differ in checkpoint, method, support")
    assert (desk / "out" / "prediction.json").read_bytes() == before
    done(fewshot(*words, "--overwrite"))
    (desk / "mine").mkdir()
    (desk / "mine" / "thesis.txt").write_text("a year's work")
    ended = fewshot(*words[:-3], "mine", *words[-2:], "--overwrite")
    assert_matches(complaint(ended, FAILED), "mine: holds something that `fewshot predict` did not write")
    assert (desk / "mine" / "thesis.txt").exists()
