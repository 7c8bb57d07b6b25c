"""Files and folders as users have them: whatever looks like an image is read, failed or listed by name."""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import ComprehensiveSRStorage

from episodes.curation.check import check_dataset
from episodes.datasets import read_dataset
from episodes.errors import UserError
from episodes.images.decoding import read_image
from episodes.names import printable
from fewshot.inference.inputs import find_inputs
from tests.cases.conftest import Ended, Fewshot
from tests.episodes.datasets.made_trees import save_image, save_mask
from tests.episodes.made_dicom import gradient, write_dicom
from tests.fewshot.predict.conftest import write_checkpoint

NUMBERS = range(3)


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "unet.safetensors", "unet")


def dataset(root: Path, images: str = "images/s{}.png", masks: str = "masks/s{}.png") -> Path:
    """Three images and their masks, by patterns of their names."""
    for number in NUMBERS:
        save_image(root / images.format(number), seed=number, mode="L")
        save_mask(root / masks.format(number))
    return root


def read(root: Path) -> dict[str, list[str]]:
    """The masks of each image, by their paths within the root."""
    return {
        record.image.relative_to(root).as_posix(): [mask.relative_to(root).as_posix() for mask in record.masks]
        for record in read_dataset("folder", root)
    }


def findings(ended: Ended) -> dict[str, dict[str, str]]:
    """What `data check --json` found, by kind and subject."""
    found: dict[str, dict[str, str]] = {}
    for one in json.loads(ended.out)["findings"]:
        found.setdefault(one["kind"], {}).update(dict.fromkeys(one["subjects"], one["detail"]))
    return found


def check(fewshot: Fewshot, root: Path) -> Ended:
    return fewshot("data", "check", root, "--dataset", "folder", "--json", "--strict")


def table(path: Path) -> list[Mapping[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))


# Links


def test_symlink_dangling(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "images" / "s3.png").symlink_to("../.git/annex/objects/gone")
    save_mask(root / "masks" / "s3.png")
    ended = check(fewshot, root)
    assert ended.status == 1
    assert "git annex get" in findings(ended)["missing file"]["folder/s3"]
    prepared = fewshot("data", "prepare", root, "--dataset", "folder")
    assert prepared.status == 1
    assert "s3.png" in prepared.message
    predicted = fewshot("predict", unet, "--images", root / "images", "--out", tmp_path / "out")
    assert predicted.status == 1
    assert "1 of 4 images could not be read" in predicted.message
    assert [row["image"] for row in table(tmp_path / "out" / "failed.csv")] == ["s3.png"]
    assert len(table(tmp_path / "out" / "predictions.csv")) == 3


def test_dangling_normals(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set", "benign/images/s{}.png", "benign/masks/s{}.png")
    save_image(root / "normal" / "images" / "n0.png")
    (root / "normal" / "images" / "n1.png").symlink_to("gone")
    ended = check(fewshot, root)
    assert ended.status == 1
    assert list(findings(ended)["missing file"]) == ["folder/n1"]


def test_links_in_circles(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "images" / "round.png").symlink_to("round.png")
    (root / "images" / "again").symlink_to(root / "images")
    save_mask(root / "masks" / "round.png")
    assert list(findings(check(fewshot, root))["missing file"]) == ["folder/round"]
    ended = fewshot("predict", unet, "--images", root / "images", "--masks", root / "masks", "--out", "out")
    assert ended.status == 1
    assert "1 of 4 images could not be read" in ended.message


def test_a_dead_link_is_a_mask_that_is_missing(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "masks" / "s1.png").unlink()
    (root / "masks" / "s1.png").symlink_to("gone")
    assert "dead link" in findings(check(fewshot, root))["missing file"]["folder/s1"]


# Formats


def test_query_mixed(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    names = ("a.png", "a.jpg", "b.webp", "c.jfif", "d.JPG", "e.tiff", "f.gif", "sub dir/a.png")
    for seed, name in enumerate(names):
        path = tmp_path / "scans" / name
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (12, 16), np.uint8))
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "JPEG" if path.suffix == ".jfif" else None)
    (tmp_path / "scans" / "g.png").symlink_to("gone.png")
    (tmp_path / "scans" / "h.heic").write_bytes(b"a phone's")
    os.mkfifo(tmp_path / "scans" / "i.png")
    ended = fewshot("predict", unet, "--images", tmp_path / "scans", "--out", tmp_path / "out")
    assert ended.status == 1
    assert "1 of 9 images could not be read" in ended.message
    assert {row["image"] for row in table(tmp_path / "out" / "predictions.csv")} == set(names)
    assert [row["image"] for row in table(tmp_path / "out" / "failed.csv")] == ["g.png"]
    left_out = {Path(row["file"]).name: row["reason"] for row in table(tmp_path / "out" / "left_out.csv")}
    assert left_out == {
        "h.heic": "HEIF is not read; save its pictures as PNG",
        "i.png": "no file, but a pipe or a device",
    }


def test_ext_jfif(tmp_path: Path) -> None:
    root = dataset(tmp_path / "set", "images/s{}.jpg")
    for old, new in (("s0.jpg", "s0.jfif"), ("s1.jpg", "s1.jpe"), ("s2.jpg", "s2.JPG")):
        (root / "images" / old).rename(root / "images" / new)
    assert list(read(root)) == ["images/s0.jfif", "images/s1.jpe", "images/s2.JPG"]


def test_ext_webp_gif(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number, suffix in enumerate(("webp", "gif", "png")):
        path = save_image(root / "images" / f"s{number}.{suffix}", seed=number, mode="L")
        save_mask(root / "masks" / f"s{number}.png")
        assert read_image(path).shape == (12, 16)
    assert len(read(root)) == 3


def test_each_picture_of_an_animation_is_a_frame(tmp_path: Path) -> None:
    pictures = [Image.fromarray(gradient() // (number + 1)) for number in NUMBERS]
    (tmp_path / "images").mkdir()
    for suffix in ("gif", "webp"):
        clip = tmp_path / "images" / f"{suffix}.{suffix}"
        pictures[0].save(clip, save_all=True, append_images=pictures[1:], duration=40)
        save_mask(tmp_path / "masks" / f"{suffix}-0002.png")
        assert len({read_image(clip, frame + 1).tobytes() for frame in NUMBERS}) == 3
    assert [record.stem for record in read_dataset("folder", tmp_path)] == ["gif-0002", "webp-0002"]


def test_mpo_jpg(tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    first, second = (Image.fromarray(gradient() // scale) for scale in (1, 4))
    path = root / "images" / "s0.jpg"
    first.save(path, "MPO", save_all=True, append_images=[second])
    (root / "images" / "s0.png").unlink()
    first.save(tmp_path / "alone.jpg")
    np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "alone.jpg"))
    assert len(read(root)) == 3


# DICOM


def test_dcm_ima_ext(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    names = ("s0.IMA", "IM_0001", "s2.000", "s3.mr", "1.2.840.17")
    for name in names:
        write_dicom(tmp_path / "images" / name, gradient())
    for stem in ("s0", "IM_0001", "s2.000", "s3", "1.2.840.17"):
        save_mask(tmp_path / "masks" / f"{stem}.png")
    assert sorted(record.image.name for record in read_dataset("folder", tmp_path)) == sorted(names)
    assert fewshot("predict", unet, "--images", tmp_path / "images", "--out", tmp_path / "out").status == 0
    assert len(table(tmp_path / "out" / "predictions.csv")) == len(names)


def test_dcm_sr_among(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = tmp_path / "set"
    for number in NUMBERS:
        write_dicom(root / "images" / f"s{number}.dcm", gradient())
        save_mask(root / "masks" / f"s{number}.png")
    report = write_dicom(root / "images" / "report.dcm", gradient())
    _make_report(report)
    found = findings(check(fewshot, root))
    assert "holds no picture (Comprehensive SR Storage)" in found["extra file"]["images/report.dcm"]
    assert len(read(root)) == 3
    ended = fewshot("predict", unet, "--images", root / "images", "--out", tmp_path / "out")
    assert ended.status == 0
    assert "report.dcm is left out: holds no picture" in ended.message
    assert len(table(tmp_path / "out" / "predictions.csv")) == 3
    damaged = write_dicom(root / "images" / "s0.dcm", gradient())
    _without_rows(damaged)
    with pytest.raises(UserError, match=r"s0\.dcm: Rows is missing"):
        read(root)


def _make_report(path: Path) -> None:
    from pydicom import dcmread

    file = dcmread(path)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    del file.Rows, file.Columns, file.PixelData
    file.save_as(path)


def _without_rows(path: Path) -> None:
    from pydicom import dcmread

    file = dcmread(path)
    del file.Rows
    file.save_as(path)


# Folders


def test_twocase(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    save_image(root / "Images" / "s3.png")
    for command in (("init",), ("check", "--dataset", "folder"), ("prepare", "--dataset", "folder")):
        ended = fewshot("data", command[0], root, *command[1:])
        assert ended.status == 1
        assert "holds Images/ and images/, whose names differ in case alone" in ended.message
    shutil.rmtree(root / "Images")
    (root / "Images").mkdir()  # nothing is lost
    assert len(read(root)) == 3


def test_nested_patients(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    for patient in ("p1", "p2"):
        save_image(root / "images" / patient / "0.png")
        save_mask(root / "masks" / patient / "0.png")
    ended = check(fewshot, root)
    assert ended.status == 1
    found = findings(ended)["not read"]
    assert set(found) == {"images/p1", "images/p2", "masks/p1", "masks/p2"}
    assert "it holds 0.png, but lies within a folder that is read" in found["images/p1"]
    for path in root.glob("*/s*.png"):
        path.unlink()
    ended = fewshot("data", "prepare", root, "--dataset", "folder")
    assert ended.status == 1
    assert "images/p1" in ended.message
    assert "patient1_0.png for patient1/0.png" in ended.message


# Names


def test_unicode_nfd(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for composed, apart in (("M\u00fcller", "Mu\u0308ller"), ("na\u00efve", "nai\u0308ve")):
        save_image(root / "images" / f"{composed}.png")
        save_mask(root / "masks" / f"{apart}.png")
    assert len(read(root)) == 2


def test_masks_gif(tmp_path: Path) -> None:
    assert read(dataset(tmp_path, masks="masks/s{}.gif"))["images/s0.png"] == ["masks/s0.gif"]


def test_slicer_nii(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "masks" / "s0.png").rename(root / "masks" / "s0.nii.gz")
    found = findings(check(fewshot, root))
    assert "masks holds s0.nii.gz; NIfTI is not read: save it as PNG" in found["missing file"]["images/s0.png"]
    assert list(found["not read"]) == ["masks/s0.nii.gz"]
    with pytest.raises(UserError, match=r"s0\.png is missing, but .*masks holds s0\.nii\.gz; NIfTI is not read"):
        read(root)


def test_a_mask_in_other_letters_is_named(tmp_path: Path) -> None:
    root = dataset(tmp_path, images="images/S{}.png")
    with pytest.raises(UserError, match=r"masks holds s0\.png; name it as its image, upper and lower case too"):
        read(root)


def test_img_mask_affix(tmp_path: Path) -> None:
    for place, (image, mask) in enumerate(
        [("case{}_image", "case{}_mask"), ("image_{}", "mask_{}"), ("c{}-IMG", "c{}-seg"), ("{} img", "{} label")]
    ):
        found = read(dataset(tmp_path / str(place), f"{image}.png", f"{mask}.png"))
        assert found == {f"{image.format(n)}.png": [f"{mask.format(n)}.png"] for n in NUMBERS}


def test_nnunet(tmp_path: Path) -> None:
    root = dataset(tmp_path, "imagesTr/bus_00{}_0000.png", "labelsTr/bus_00{}.png")
    assert read(root) == {f"imagesTr/bus_00{n}_0000.png": [f"labelsTr/bus_00{n}.png"] for n in NUMBERS}


def test_nnunet_renamed(tmp_path: Path) -> None:
    root = dataset(tmp_path, "images/bus_00{}_0000.png", "labels/bus_00{}.png")
    assert read(root) == {f"images/bus_00{n}_0000.png": [f"labels/bus_00{n}.png"] for n in NUMBERS}


# Exports of annotation tools


def refused(fewshot: Fewshot, root: Path, said: str) -> None:
    """Every command refuses the folder, says what it looks like, and sends nobody elsewhere in vain."""
    for command in (("init",), ("check", "--dataset", "folder"), ("prepare", "--dataset", "folder")):
        ended = fewshot("data", command[0], root, *command[1:])
        assert ended.status == 1
        assert said in ended.message
        assert "give that folder" not in ended.message


def test_labelme_json(fewshot: Fewshot, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shapes = [{"label": "lesion", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon"}]
    for number in NUMBERS:
        save_image(root / f"s{number}.jpg")
        (root / f"s{number}.json").write_text(json.dumps({"shapes": shapes, "imagePath": f"s{number}.jpg"}))
    refused(fewshot, root, "looks like LabelMe's JSON (polygons) (s0.json)")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"images": [{"file_name": "s0.png"}], "annotations": []}, "COCO's JSON"),
        ({"s0.png12": {"filename": "s0.png", "regions": [{"shape_attributes": {}}]}}, "VIA's JSON"),
        ([{"annotations": [{"result": [{"from_name": "tag"}]}]}], "Label Studio's JSON"),
    ],
)
def test_other_json_of_tools(fewshot: Fewshot, tmp_path: Path, content: object, said: str) -> None:
    root = tmp_path / "set"
    save_image(root / "images" / "s0.png")
    (root / "annotations").mkdir()
    (root / "annotations" / "all.json").write_text(json.dumps(content))
    refused(fewshot, root, said)


def test_labelstudio_names(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set", masks="masks/task-{}-annotation-1-by-1-tag-lesion-0.png")
    refused(fewshot, root, "the names that Label Studio gives (task-0-annotation-1-by-1-tag-lesion-0)")


def test_voc_cvat(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set", "JPEGImages/s{}.jpg", "SegmentationClass/s{}.png")
    refused(fewshot, root, "masks of Pascal VOC or CVAT (SegmentationClass/, a colour for each class)")
    assert fewshot("predict", unet, "--images", root, "--out", tmp_path / "out").status == 0
    assert len(table(tmp_path / "out" / "predictions.csv")) == 3  # no mask is segmented


@pytest.mark.parametrize("below", ["", "train/"])
def test_yolo_polygons(fewshot: Fewshot, tmp_path: Path, below: str) -> None:
    root = tmp_path / "set"
    for number in NUMBERS:
        save_image(root / f"{below}images/s{number}.jpg")
        (root / f"{below}labels").mkdir(exist_ok=True)
        (root / f"{below}labels/s{number}.txt").write_text("0 0.1 0.2 0.5 0.2 0.5 0.6\n")
    refused(fewshot, root, f"looks like YOLO's text files ({below}labels/s0.txt)")


def test_files_of_a_tool_beside_masks_do_no_harm(tmp_path: Path) -> None:
    root = dataset(tmp_path)
    (root / "images" / "s0.json").write_text('{"shapes": [{"points": []}]}')
    assert len(read(root)) == 3


def test_patients_each_in_a_folder(fewshot: Fewshot, tmp_path: Path) -> None:
    for patient in ("p1", "p2"):
        dataset(tmp_path / "set" / patient)
    ended = fewshot("data", "init", tmp_path / "set")
    assert ended.status == 1
    assert "2 folders can each be read by itself" in ended.message


# Truths


def test_truths_that_match_no_image(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "masks" / "s0.png").rename(root / "masks" / "t0.png")
    (root / "masks" / "s1.png").rename(root / "masks" / "s1.nrrd")
    ended = fewshot("predict", unet, "--images", root / "images", "--masks", root / "masks", "--out", tmp_path / "out")
    assert ended.status == 0
    assert "t0.png is left out: a mask of none of the images, by its name" in ended.message
    left_out = {Path(row["file"]).name: row["reason"] for row in table(tmp_path / "out" / "left_out.csv")}
    assert set(left_out) == {"t0.png", "s1.nrrd"}


# Names that text cannot hold

ODD = {
    "not UTF-8": os.fsdecode(b"M\xfcller"),
    "control": "a\x1b[31m\nb",
    "markup": "[red]x [bold",
    "long": "x" * 251,
    "long umlauts": "\u00fc" * 125,
    "direction": "a\u202eb",
}


@pytest.mark.parametrize("name", ODD.values(), ids=list(ODD))
def test_one_name_stops_no_folder(fewshot: Fewshot, tmp_path: Path, unet: Path, name: str) -> None:
    root = dataset(tmp_path / "set")
    save_image(root / "images" / f"{name}.png", seed=9)
    save_mask(root / "masks" / f"{name}.png")
    checked = fewshot("data", "check", root, "--dataset", "folder", "--details")
    shown = fewshot("data", "init", root)
    prepared = fewshot("data", "prepare", root, "--dataset", "folder", "--cache", tmp_path / "cache")
    predicted = fewshot("predict", unet, "--images", root / "images", "--masks", root / "masks", "--out", "out")
    for ended in (checked, shown, prepared, predicted):
        assert ended.status == 0, ended.err
        assert all(one.isprintable() for text in (ended.out, ended.err) for one in text.replace("\n", ""))
    assert "4 images" in prepared.out
    rows = table(tmp_path / "out" / "predictions.csv")
    assert {row["image"] for row in rows} == {"s0.png", "s1.png", "s2.png", printable(f"{name}.png")}
    assert all((tmp_path / "out" / row["mask"]).is_file() and row["dice"] for row in rows)


def test_a_folder_of_such_a_name(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / ODD["not UTF-8"] / ODD["control"])
    for command in (("data", "check", root, "--dataset", "folder"), ("data", "prepare", root, "--dataset", "folder")):
        ended = fewshot(*command)
        assert ended.status == 0, ended.err
        assert "\x1b" not in ended.out + ended.err
    for images, out in ((root / "images", "one"), (tmp_path / ODD["not UTF-8"], "two")):
        assert fewshot("predict", unet, "--images", images, "--out", out).status == 0
        assert all((tmp_path / out / row["mask"]).is_file() for row in table(tmp_path / out / "predictions.csv"))
    ended = fewshot("data", "init", root, "--out", "mine.yaml")
    assert ended.status == 1
    assert "is not UTF-8, so that no configuration can name it; rename the folder" in ended.message


def test_a_damaged_file_with_such_a_name_is_listed(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set")
    (root / "images" / os.fsdecode(b"\xff\x1b[2J.png")).write_text("no picture")
    ended = fewshot("predict", unet, "--images", root / "images", "--out", "out")
    assert ended.status == 1
    assert "%FF%1B[2J.png cannot be decoded" in ended.message
    assert [row["image"] for row in table(tmp_path / "out" / "failed.csv")] == ["%FF%1B[2J.png"]
    ended = fewshot("data", "check", root, "--dataset", "folder", "--details")
    assert "%FF%1B[2J.png" in ended.out
    assert "\x1b" not in ended.out


_BYTES = st.binary(min_size=1, max_size=120).filter(lambda name: not {0, 0x2F} & set(name))
_TEXT = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
_STEMS = st.one_of(
    _TEXT.map(str.encode),
    _BYTES,
    st.sampled_from(["u\u0308", "\u00fc", "A", "a", "a\nb", "a%0Ab", "[red]", ".a", "x" * 240, "a_mask", "1.2.3"]).map(
        str.encode
    ),
)
_SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".gif", ".webp", ".nii.gz", ".heic", ".dcm", ".txt", ""])


@given(stems=st.lists(st.tuples(_STEMS, _SUFFIXES), max_size=8, unique=True), pairs=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_looks_like_an_image_is_read_failed_or_listed(
    tmp_path_factory: pytest.TempPathFactory, stems: list[tuple[bytes, str]], *, pairs: bool
) -> None:
    root = tmp_path_factory.mktemp("names")
    picture = save_image(root.with_suffix(".png"), mode="L").read_bytes()
    names = {os.fsdecode(stem + suffix.encode()) for stem, suffix in stems if len(stem) < 246 and stem.strip(b".")}
    for folder in ("images", "masks") if pairs else ("images",):
        (root / folder).mkdir()
        save_image(root / folder / "plain.png", mode="L")
        for name in names:
            (root / folder / name).write_bytes(picture)
    looks = {
        (folder.name, path.name)
        for folder in root.iterdir()
        for path in folder.iterdir()
        if path.suffix.lower() in (".png", ".jpg", ".gif", ".webp", ".heic", ".dcm")
        or path.name.endswith(".nii.gz")
        or not (path.suffix or path.name.startswith("."))
    }
    (root / "masks").mkdir(exist_ok=True)
    found = find_inputs(str(root / "images"))
    listed = [one.path.name for one in found.items] + [path.name for path in found.left_out]
    assert sorted(listed) == sorted(name for folder, name in looks if folder == "images")
    for distinct in ({one.key for one in found.items}, {one.name.casefold() for one in found.items}):
        assert len(distinct) == len(found.items)
    for one in found.items:
        assert one.image.isprintable()
        assert max(len(part.encode()) for part in one.name.split("/")) <= 240
    report = check_dataset("folder", root)
    json.dumps(report.as_json()).encode()
    named = {subject for finding in report.findings for subject in finding.subjects}
    records = read_all(root)
    for folder, name in looks:
        path = root / folder / name
        assert path in records or printable(f"{folder}/{name}") in named


def read_all(root: Path) -> set[Path]:
    """Every file that a record uses."""
    from episodes.datasets.problems import collected_problems

    with collected_problems():
        records = read_dataset("folder", root)
    return {path for record in records for path in (record.image, *record.masks)}


def test_a_picture_without_a_suffix_is_listed(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    """An image that lost its suffix does not vanish."""
    root = dataset(tmp_path / "set")
    (root / "images" / "s1.png").rename(root / "images" / "s1")
    found = findings(check(fewshot, root))
    assert "a picture whose name says no format is not read" in found["not read"]["images/s1"]
    ended = fewshot("predict", unet, "--images", root / "images", "--out", tmp_path / "out")
    assert "s1 is left out: a picture whose name says no format" in ended.message


def test_masks_that_differ_in_the_suffix_alone(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    """Nobody can say which of two is the truth: `--masks` refuses them as a dataset does."""
    root = dataset(tmp_path / "set")
    save_mask(root / "masks" / "s1.bmp")
    said = "differs in the suffix alone; remove one of the two"
    assert said in str(findings(check(fewshot, root))["name taken twice"])
    ended = fewshot("predict", unet, "--images", root / "images", "--masks", root / "masks", "--out", tmp_path / "out")
    assert ended.status == 1
    assert said in ended.message


@pytest.mark.parametrize("masks", ["{}_lesion", "mask of {}", "{} "])
def test_a_mask_of_another_name_is_named(fewshot: Fewshot, tmp_path: Path, masks: str) -> None:
    root = tmp_path / "set"
    for number in (1, 10):
        save_image(root / "images" / f"s{number}.png", seed=number, mode="L")
        name = masks.format(f"s{number}")
        save_mask(root / "masks" / f"{name}.png")
    found = findings(check(fewshot, root))["missing file"]
    assert f"{masks.format('s1')}.png; name it as its image" in found["images/s1.png"]


def test_two_images_whose_names_look_alike(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    for name in ("\u00e4.png", "a\u0308.png"):
        save_image(root / "images" / name, mode="L")
    assert "differs in the letters' Unicode form alone" in str(findings(check(fewshot, root))["name taken twice"])


def test_volumes_as_known_masks_are_named(fewshot: Fewshot, tmp_path: Path, unet: Path) -> None:
    root = dataset(tmp_path / "set")
    shutil.rmtree(root / "masks")
    (root / "masks").mkdir()
    (root / "masks" / "s0.nii.gz").write_bytes(b"")
    ended = fewshot("predict", unet, "--images", root / "images", "--masks", root / "masks", "--out", tmp_path / "out")
    assert ended.status == 1
    assert "s0.nii.gz: NIfTI is not read" in ended.message


def test_pictures_in_folders_of_other_names_are_named(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set", "Bilder/s{}.png", "Masken/s{}.png")
    assert "pictures lie in Bilder/, Masken/" in fewshot("data", "init", root).message
    deep = dataset(tmp_path / "deep", "benign/P{}/images/x.png", "benign/P{}/masks/x.png")
    assert "pictures lie in benign/P0/images/, benign/P0/masks/" in fewshot("data", "init", deep).message


def test_nothing_is_said_of_images_that_cannot_be_used(fewshot: Fewshot, tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    for number in NUMBERS:
        Image.new("L", (24, 16), 255).save(root / "masks" / f"s{number}.png")
    out = fewshot("data", "init", root).out
    assert "images    3, of which none can be used as it is" in out
    assert "()" not in out
