import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.curation import KINDS, CheckReport, Finding, check
from episodes.datasets import bus_uclm, folder, read_dataset
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.episodes.datasets.made_trees import save_image, save_mask, write_table

SIZE = (60, 80)
BOX = (20, 20, 40, 40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean folder dataset of four images of two patients."""
    rows = [("image", "label", "patient")]
    for seed, label in enumerate(("benign", "malignant", "normal", "unknown")):
        save_image(tmp_path / "images" / f"{label}.png", seed, size=SIZE)
        save_mask(tmp_path / "masks" / f"{label}.png", None if label == "normal" else BOX, size=SIZE)
        rows.append((label, label, f"p{seed // 2}"))
    write_table(tmp_path / "metadata.csv", rows)
    return tmp_path


def check_folder(root: Path) -> CheckReport:
    return check(folder.read(root), root)


def test_a_clean_dataset(root: Path) -> None:
    report = check_folder(root)
    assert report == CheckReport(
        dataset="folder",
        root=str(root),
        counts={"images": 4, "patients": 2, "normal": 1, "benign": 1, "malignant": 1, "unknown": 1},
        published={},
        findings=(),
    )


def test_unreadable_files_do_not_end_the_check(root: Path) -> None:
    image = root / "images" / "benign.png"
    image.write_bytes(image.read_bytes()[:300])
    (root / "masks" / "malignant.png").write_text("no mask")
    one, other = check_folder(root).findings
    assert (one.kind, one.subjects) == ("unreadable", ("folder/benign",))
    assert one.detail.startswith(f"{image} cannot be decoded")
    assert (other.kind, other.subjects) == ("unreadable", ("folder/malignant",))


def test_a_mask_of_another_size(root: Path) -> None:
    save_mask(root / "masks" / "benign.png", BOX, size=(61, 99))
    (finding,) = check_folder(root).findings
    assert finding == Finding(
        "mask of another size",
        ("folder/benign",),
        "benign.png is 99 x 61, the image 80 x 60: resized to it (nearest), see that it fits",
    )


def test_masks_against_labels(root: Path) -> None:
    save_mask(root / "masks" / "benign.png", None, size=SIZE)
    save_mask(root / "masks" / "normal.png", BOX, size=SIZE)
    assert check_folder(root).findings == (
        Finding("lesion without mask", ("folder/benign",), "labelled benign, but no pixel is marked"),
        Finding("normal with lesion", ("folder/normal",), "labelled normal, but 8.333 % of the image is marked"),
    )


def test_tiny_and_several_lesions(root: Path) -> None:
    mask = save_mask(root / "masks" / "benign.png", (20, 20, 22, 22), size=SIZE)
    report = check_folder(root)
    assert report.findings == (Finding("tiny lesion", ("folder/benign",), "0.083 % of the image"),)
    with Image.open(mask) as image:
        image.putpixel((22, 22), 1)  # touches at a corner: still one part
        image.putpixel((70, 50), 1)
        image.save(mask)
    (finding,) = check_folder(root).findings
    assert finding == Finding("several lesions", ("folder/benign",), "2 separate parts in 1 mask file(s)")


def test_unused_files(root: Path) -> None:
    save_image(root / "images" / "notes" / "sketch.JPG")
    save_mask(root / "masks" / "absent.png")
    (root / "readme.txt").write_text("not an image")
    findings = check_folder(root).of_kind("unused file")
    assert [finding.subjects for finding in findings] == [("images/notes/sketch.JPG",), ("masks/absent.png",)]


def test_duplicates(root: Path) -> None:
    shutil.copy(root / "images" / "benign.png", root / "images" / "unknown.png")
    with Image.open(root / "images" / "malignant.png") as image:
        image.point(lambda value: value // 2).save(root / "images" / "normal.png")
    report = check_folder(root)
    same, alike = ("folder/benign", "folder/unknown"), ("folder/malignant", "folder/normal")
    assert report.findings == (
        Finding("exact duplicates", same, "the same pixels"),
        Finding("near-duplicates", same, "thumbnails correlate above 0.99"),
        Finding("near-duplicates", alike, "thumbnails correlate above 0.99"),
        Finding("duplicates of different labels", same, "benign, unknown"),
        Finding("duplicates of different labels", alike, "malignant, normal"),
        Finding("duplicates of different patients", same, "p0, p1"),
        Finding("duplicates of different patients", alike, "p0, p1"),
    )


def test_exact_duplicates_are_of_pixels_and_shape(root: Path) -> None:
    pixels = np.arange(4800, dtype=np.uint16).reshape(SIZE).astype(np.uint8)
    Image.fromarray(pixels).save(root / "images" / "benign.png", compress_level=0)
    Image.fromarray(pixels).convert("RGB").save(root / "images" / "unknown.png")
    assert len(check_folder(root).of_kind("exact duplicates")) == 1
    Image.fromarray(pixels.reshape(80, 60)).save(root / "images" / "unknown.png")
    assert not check_folder(root).of_kind("exact duplicates")


def test_images_without_patients_are_no_patients_under_two_names(root: Path) -> None:
    (root / "metadata.csv").unlink()
    shutil.copy(root / "images" / "benign.png", root / "images" / "unknown.png")
    kinds = {finding.kind for finding in check_folder(root).findings}
    assert kinds == {"exact duplicates", "near-duplicates", "lesion without mask"}


def test_coloured_masks_against_labels(tmp_path: Path) -> None:
    rows = [("Image", "Label", "Doppler", "Marks", "Combined")]
    colours = {"Benign": (255, 0, 0), "Malignant": (255, 0, 0), "Normal": (0, 255, 0)}
    for seed, (label, colour) in enumerate(colours.items()):
        save_image(tmp_path / "images" / f"{label}_0.png", seed, size=SIZE)
        save_mask(tmp_path / "masks" / f"{label}_0.png", BOX, "RGB", colour, size=SIZE)
        rows.append((f"{label}_0.png", label, "No", "No", "No"))
    write_table(tmp_path / "INFO.csv", rows, delimiter=";")
    report = check(bus_uclm.read(tmp_path), tmp_path)
    assert report.published == {"benign": 174, "malignant": 90, "normal": 419, "patients": 38}
    assert report.findings == (
        Finding("normal with lesion", ("bus_uclm/Normal_0",), "labelled normal, but 8.333 % of the image is marked"),
        Finding("class against label", ("bus_uclm/Benign_0",), "labelled benign, but marked malignant"),
    )


def test_progress_and_json(root: Path) -> None:
    (root / "masks" / "benign.png").write_bytes(b"")
    calls: list[tuple[int, int]] = []
    report = check(folder.read(root), root, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    plain = json.loads(json.dumps(asdict(report)))
    assert plain["counts"]["images"] == 4
    assert plain["findings"][0]["kind"] == "unreadable"


def test_nothing_readable(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    assert [finding.kind for finding in check_folder(root).findings] == ["unreadable"] * 4


def test_phantoms_have_no_faults(tmp_path: Path) -> None:
    write_folder(generate(PhantomSpec("linear", n_images=12, size=64)), tmp_path)
    faults = set(KINDS) - {"several lesions", "near-duplicates", "tiny lesion"}
    assert not {finding.kind for finding in check_folder(tmp_path).findings} & faults


def test_native_files(shared_data: Path) -> None:
    root = shared_data / "native" / "BUS-UCLM"
    report = check(read_dataset("bus_uclm", root), root)
    sizes = report.of_kind("mask of another size")
    assert [finding.subjects for finding in sizes] == [(f"bus_uclm/HESN_00{i}",) for i in range(3)]
    pairs = [("000", "005"), ("001", "008"), ("002", "009"), ("003", "013")]
    expected = [(f"bus_uclm/CHCO_{one}", f"bus_uclm/CHVI_{other}") for one, other in pairs]
    for kind in ("exact duplicates", "near-duplicates", "duplicates of different patients"):
        assert [finding.subjects for finding in report.of_kind(kind)] == expected
    assert len(report.findings) == 3 + 3 * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "root"), [("busi", "Dataset_BUSI_with_GT"), ("bus_uclm", "BUS-UCLM"), ("bus_bra", "BUSBRA")]
)
def test_full_sets_are_as_published(shared_data: Path, name: str, root: str) -> None:
    report = check(read_dataset(name, shared_data / root), shared_data / root)
    assert report.published.items() <= report.counts.items()
    faults = ("unreadable", "unused file", "lesion without mask", "normal with lesion", "class against label")
    assert not [finding for kind in faults for finding in report.of_kind(kind)]
    assert len(report.of_kind("mask of another size")) == {"bus_uclm": 13}.get(name, 0)
    assert len(report.of_kind("exact duplicates")) == {"busi": 1, "bus_uclm": 4, "bus_bra": 0}[name]
