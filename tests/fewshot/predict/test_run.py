"""A folder of results: what is in it, how it goes on, and what it refuses."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.errors import StorageError, UserError
from episodes.images.decoding import read_image
from episodes.io.locks import exclusive_lock
from fewshot.api import load
from fewshot.devices import NotEnoughMemoryError
from fewshot.inference.inputs import find_inputs
from fewshot.predict import run as chunks
from fewshot.predict.results import ResultFolder
from tests.episodes.made_dicom import gradient, write_dicom
from tests.fewshot.predict.conftest import Desk, write_checkpoint

NAMES = ["first/0", "first/1", "first/2", "second/3", "second/4", "second/5", "second/6"]


def rows(desk: Desk, out: str = "out") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(desk.files(out)["predictions.csv"].decode())))


# What is in it


def test_every_image_has_its_pictures_and_its_row(desk: Desk) -> None:
    summary = desk.predict()
    pictures = {f"{kind}/{name}.png" for kind in ("masks", "probabilities", "overlays") for name in NAMES}
    assert desk.files().keys() == pictures | {"prediction.json", "predictions.csv"}
    assert [row["image"] for row in rows(desk)] == [f"{name}.png" for name in NAMES]
    assert summary.lines()[0].startswith("7 images")
    assert not summary.failed


def test_pictures_and_rows_say_what_the_model_says(desk: Desk) -> None:
    desk.predict(spacing=(0.2, 0.1))
    segmenter = load(desk.panet, device="cpu").adapt_folder(desk.support)
    paths = [desk.images / f"{name}.png" for name in NAMES]
    for row, path, found in zip(rows(desk), paths, segmenter.predict(paths), strict=True):
        image = read_image(path)
        mask = np.asarray(Image.open(desk.folder / "out" / row["mask"]))
        probability = np.asarray(Image.open(desk.folder / "out" / "probabilities" / row["image"])) / 65535
        overlay = np.asarray(Image.open(desk.folder / "out" / "overlays" / row["image"]).convert("RGB"))
        assert (int(row["height"]), int(row["width"])) == image.shape == mask.shape
        differing = (mask == 255) != found.mask
        assert (np.abs(found.probability - 0.5) < 1e-4)[differing].all()
        np.testing.assert_allclose(probability, found.probability, atol=1e-4)
        assert overlay.shape == (*image.shape, 3)
        area = int(row["area_px"])
        assert area == np.count_nonzero(mask)
        assert float(row["area_mm2"]) == pytest.approx(area * 0.02, abs=1e-3)
        assert float(row["coverage"]) == pytest.approx(area / mask.size, abs=1e-6)
        assert float(row["lesion_confidence"]) == pytest.approx(found.probability[found.mask].mean(), abs=1e-4)
        assert row["novelty"] == row["p_benign"] == row["dice"] == ""


def test_probabilities_as_arrays(desk: Desk) -> None:
    desk.predict()
    desk.predict("arrays", npy=True)
    for name in NAMES:
        found = np.load(desk.folder / "arrays" / "probabilities" / f"{name}.npy", allow_pickle=False)
        shown = np.asarray(Image.open(desk.folder / "out" / "probabilities" / f"{name}.png"))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(np.round(found.astype(np.float64) * 65535), shown)


def test_known_masks_give_dice(desk: Desk) -> None:
    masks = desk.folder / "known"
    for name in NAMES[:3]:
        height, width = read_image(desk.images / f"{name}.png").shape
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 255 * (name != "first/2")
        path = masks / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    summary = desk.predict(masks=masks)
    found = rows(desk)
    for row in found[:2]:
        mask = np.asarray(Image.open(desk.folder / "out" / row["mask"])) == 255
        truth = np.zeros_like(mask)
        truth[: len(mask) // 2] = True
        expected = 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))
        assert float(row["dice_full"]) == pytest.approx(expected, abs=1e-6)
        assert float(row["dice"]) == pytest.approx(expected, abs=0.1)
    assert found[0]["dice"] == found[0]["dice_full"]  # it is of the working size
    assert all(row["dice"] == row["dice_full"] == "" for row in found[2:])  # a normal image, and unknown ones
    mean = (float(found[0]["dice"]) + float(found[1]["dice"])) / 2
    assert summary.lines()[1] == f"Lesion Dice {mean:.4f}, mean over 2 images with a lesion"


def test_frames_of_a_clip_are_images(desk: Desk) -> None:
    write_dicom(desk.images / "clip.dcm", np.stack([gradient(40, 64)] * 3), facts={"PixelSpacing": [0.5, 0.5]})
    desk.predict(images=str(desk.images / "clip.dcm"))
    assert {name for name in desk.files() if name.startswith("masks")} == {f"masks/clip-000{n}.png" for n in (1, 2, 3)}
    assert [row["frame"] for row in rows(desk)] == ["1", "2", "3"]
    assert all(float(row["area_mm2"]) == int(row["area_px"]) / 4 for row in rows(desk))


def test_support_images_are_known_by_their_pixels_and_left_out(desk: Desk) -> None:
    shutil.copy(desk.support / "images" / "s1.png", desk.images / "first" / "0.5.png")
    desk.predict()
    assert [row["image"] for row in rows(desk)] == [f"{name}.png" for name in NAMES]
    before = desk.files()
    desk.predict()
    assert desk.files() == before


def test_what_made_it_is_written_down(desk: Desk) -> None:
    desk.predict(shots=1)
    facts = json.loads(desk.files()["prediction.json"])
    assert facts["notice"] == "Research only, not for clinical use."
    assert facts["support"]["images"] == ["folder/s0"]
    assert facts["method"] == "prototypes"
    assert len(facts["checkpoint"]) == 64


def test_few_images_at_once_are_predicted_alike(desk: Desk) -> None:
    desk.predict()
    desk.predict("one by one", batch=1)
    for left, right in zip(rows(desk), rows(desk, "one by one"), strict=True):
        assert float(left["lesion_confidence"]) == pytest.approx(float(right["lesion_confidence"]), abs=1e-4)


# How it goes on


class StoppedError(Exception):
    """As if the process were killed."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n_images: int, *, before_row: bool) -> None:
    """Stop before the row of an image is written, or when it has been."""
    add_row, done = chunks.ResultFolder.add.__globals__["add_row"], []

    def stopping(path: Path, row: Any) -> None:
        if len(done) == n_images and before_row:
            raise StoppedError
        add_row(path, row)
        done.append(row)
        if len(done) == n_images and not before_row:
            raise StoppedError

    monkeypatch.setattr("fewshot.predict.results.add_row", stopping)


@pytest.mark.parametrize("before_row", [True, False])
@pytest.mark.parametrize("n_images", [1, 3, 4, 6])
def test_wherever_it_was_stopped_it_ends_the_same(
    desk: Desk, n_images: int, before_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.predict("undisturbed")
    with monkeypatch.context() as patch:
        stop_after(patch, n_images, before_row=before_row)
        with pytest.raises(StoppedError):
            desk.predict()
    with (desk.folder / "out" / "predictions.csv").open("a") as file:
        file.write("second/3.png,,masks/sec")  # half a row
    desk.predict()
    assert desk.files() == desk.files("undisturbed")


def test_finishing_twice_changes_nothing_and_does_not_adapt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.predict()
    before = {path: path.stat().st_mtime_ns for path in (desk.folder / "out").rglob("*")}

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("fewshot.methods.prototypical.SupportPrototypes.adapt", never)
    assert desk.predict().lines()[0].startswith("7 images")
    assert {path: path.stat().st_mtime_ns for path in (desk.folder / "out").rglob("*")} == before


def test_what_changed_is_predicted_again_and_what_is_new_is_added_in_order(desk: Desk) -> None:
    desk.predict()
    before = desk.files()
    changed, added = desk.images / "first" / "1.png", desk.images / "first" / "0b.png"
    shutil.copy(desk.images / "second" / "4.png", added)
    Image.fromarray(255 - read_image(changed)).save(changed)
    desk.predict()
    after = desk.files()
    assert [row["image"] for row in rows(desk)] == ["first/0.png", "first/0b.png", *(f"{n}.png" for n in NAMES[1:])]
    assert after["overlays/first/1.png"] != before["overlays/first/1.png"]
    assert after["overlays/second/6.png"] == before["overlays/second/6.png"]
    (desk.folder / "out" / "overlays" / "second" / "6.png").unlink()
    (desk.folder / "out" / "masks" / "second" / "5.png").write_bytes(b"")  # as a loss of power may leave it
    desk.predict()
    assert desk.files() == after


def test_any_number_of_threads_has_the_same_bytes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.predict(batch=2)
    monkeypatch.setattr(chunks, "WRITERS", 1)
    desk.predict("one", batch=2)
    monkeypatch.setattr(chunks, "WRITERS", 5)
    desk.predict("five", batch=2)
    assert desk.files() == desk.files("one") == desk.files("five")


def test_a_known_spacing_or_mask_is_news(desk: Desk) -> None:
    desk.predict()
    assert rows(desk)[0]["area_mm2"] == ""
    desk.predict(spacing=(1.0, 1.0))
    assert all(float(row["area_mm2"]) == int(row["area_px"]) for row in rows(desk))


# What cannot be read


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(desk: Desk) -> None:
    (desk.images / "first" / "0.png").write_text("no picture")
    (desk.images / "second" / "4.png").write_bytes((desk.images / "second" / "4.png").read_bytes()[:200])
    image = Image.new("1", (10_000, 10_000))
    image.save(desk.images / "second" / "huge.png")
    summary = desk.predict()
    assert [row["image"] for row in rows(desk)] == [f"{name}.png" for name in NAMES if name[-1] not in "04"]
    listed = list(csv.DictReader(io.StringIO(desk.files()["failed.csv"].decode())))
    assert [one["image"] for one in listed] == ["first/0.png", "second/4.png", "second/huge.png"]
    assert "exceed the limit" in listed[2]["reason"]
    with pytest.raises(UserError, match=r"^3 of 8 images could not be read: .*0\.png cannot be decoded .*failed\.csv$"):
        summary.require_all_read()


def test_what_has_been_mended_is_no_failure_any_more(desk: Desk) -> None:
    path = desk.images / "first" / "0.png"
    whole = path.read_bytes()
    desk.predict("undisturbed")
    path.write_bytes(whole[:-50])
    desk.predict()
    path.write_bytes(whole)
    desk.predict()
    assert desk.files().keys() == desk.files("undisturbed").keys()
    path.write_bytes(whole[:-50])
    desk.predict()
    assert [row["image"] for row in rows(desk)] == [f"{name}.png" for name in NAMES[1:]]


# What it refuses


def test_results_of_another_model_support_or_options_are_left_alone(desk: Desk) -> None:
    desk.predict(shots=1)
    before = desk.files()
    other = write_checkpoint(desk.folder / "unet.safetensors", "unet")
    elsewhere = desk.folder / "elsewhere"
    shutil.copytree(desk.images, elsewhere)
    for changes, message in (
        ({"shots": 2}, r"out: holds results that differ in support; give another folder, or add --overwrite"),
        ({"checkpoint": other, "support": None}, r"differ in checkpoint, method, support"),
        ({"shots": 1, "npy": True}, r"differ in probabilities"),
        ({"shots": 1, "images": str(elsewhere)}, r"differ in images"),
    ):
        with pytest.raises(UserError, match=message):
            desk.predict(**changes)
        assert desk.files() == before
    desk.predict(shots=2, overwrite=True)
    desk.predict("fresh", shots=2)
    assert desk.files() == desk.files("fresh")


def test_what_it_did_not_write_is_never_deleted(desk: Desk) -> None:
    (desk.folder / "out").mkdir()
    (desk.folder / "out" / "prediction.json").write_text('{"mine": 1}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"out: holds something that `fewshot predict` did not write"):
            desk.predict(overwrite=overwrite)
    assert (desk.folder / "out" / "prediction.json").read_text() == '{"mine": 1}'


def test_an_empty_folder_is_filled(desk: Desk) -> None:
    (desk.folder / "out").mkdir()
    desk.predict()
    assert len(rows(desk)) == 7


def test_a_second_process_waits_outside(desk: Desk) -> None:
    import threading

    caught: list[BaseException] = []

    def second() -> None:
        try:
            desk.predict()
        except UserError as error:
            caught.append(error)

    with exclusive_lock(desk.folder / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(caught) == 1
    assert "is at work there" in str(caught[0])


def test_results_within_the_images_are_no_images(desk: Desk) -> None:
    desk.predict("scans/out")
    desk.predict("scans/out")
    assert len(rows(desk, "scans/out")) == 7
    assert len(find_inputs(str(desk.images), [desk.images / "out"]).items) == 7


# Where room is scarce


def test_fewer_images_at_once_where_memory_is_scarce(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewshot.panet.network import PANet

    segment, tried = PANet.segment, []

    def scarce(self: PANet, images: Any, adapted: Any) -> Any:
        tried.append(len(images))
        if len(images) > 2:
            raise MemoryError
        return segment(self, images, adapted)

    monkeypatch.setattr(PANet, "segment", scarce)
    assert len(desk.predict(batch=4).rows) == 7
    assert tried[:3] == [4, 2, 2]
    monkeypatch.setattr(PANet, "segment", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(NotEnoughMemoryError, match="out of memory: cpu, one image at a time"):
        desk.predict("none")


def test_a_full_disk_is_told_and_what_was_written_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        add, done = ResultFolder.add, []

        def full(self: ResultFolder, *details: Any) -> None:
            if len(done) == 3:
                raise StorageError("out: cannot be written")
            done.append(add(self, *details))

        patch.setattr(ResultFolder, "add", full)
        with pytest.raises(StorageError):
            desk.predict()
    assert len(rows(desk)) == 3
    desk.predict()
    desk.predict("undisturbed")
    assert desk.files() == desk.files("undisturbed")
