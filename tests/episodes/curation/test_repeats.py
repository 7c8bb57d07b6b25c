"""Images that show the same."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from episodes.curation.check import find_exact_duplicates, find_near_duplicates, inspect
from episodes.curation.findings import Finding
from episodes.records import Label, Record
from tests.episodes.datasets.made_trees import save_image

SIZE = (60, 80)


def record(path: Path, label: Label = "benign", patient: str = "") -> Record:
    return Record("d", path, (), label, patient)


def exact(*records: Record) -> list[Finding]:
    return list(find_exact_duplicates([inspect(one) for one in records]))


def near(*records: Record) -> list[tuple[str, tuple[str, ...], str]]:
    found = find_near_duplicates([inspect(one) for one in records])
    return [(finding.kind, finding.subjects, finding.detail) for finding in found]


def test_equal_pixels_in_equal_and_in_different_files(tmp_path: Path) -> None:
    a, other = save_image(tmp_path / "a.png", size=SIZE), save_image(tmp_path / "b.png", 1, size=SIZE)
    assert exact(record(a), record(other)) == []
    copy = Path(shutil.copy(a, tmp_path / "c.png"))
    same = ("d/a", "d/c")
    assert exact(record(a), record(other), record(copy)) == [
        Finding("exact duplicates", same, "the same pixels in byte-identical files")
    ]
    with Image.open(a) as image:
        image.convert("RGB").save(copy, compress_level=0)
    assert exact(record(a), record(copy)) == [Finding("exact duplicates", same, "the same pixels in files that differ")]


def test_equal_bytes_of_another_shape_are_no_duplicates(tmp_path: Path) -> None:
    pixels = np.arange(4800, dtype=np.uint16).reshape(SIZE).astype(np.uint8)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(pixels).save(a)
    Image.fromarray(pixels.reshape(80, 60)).save(b)
    assert exact(record(a), record(b)) == []


def test_equal_frames_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.tif"
    frame = Image.fromarray(np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8))
    frame.save(path, save_all=True, append_images=[frame])
    first, second = (Record("d", path, (), "normal", "p", frame=number) for number in (1, 2))
    assert exact(first, second) == [
        Finding("exact duplicates", ("d/clip-0001", "d/clip-0002"), "the same pixels in frames of one file")
    ]


def darker(path: Path, other: Path) -> Path:
    with Image.open(path) as image:
        image.convert("L").point(lambda value: value // 2).save(other)
    return other


def test_labels_and_patients_of_near_duplicates(tmp_path: Path) -> None:
    a = save_image(tmp_path / "a.png", size=SIZE)
    b = darker(a, tmp_path / "b.png")
    ids = ("d/a", "d/b")
    assert near(record(a, patient="p"), record(b, patient="p")) == [
        ("near-duplicates", ids, "correlation 1.000, of one patient")
    ]
    assert near(record(a, "benign", "p"), record(b, "malignant", "q")) == [
        ("near-duplicates", ids, "correlation 1.000"),
        ("two patients, two labels", ids, "benign: a; malignant: b"),
        ("patient under two names", ids, "p, q"),
    ]


def test_a_lesion_of_unknown_kind_contradicts_a_normal_alone(tmp_path: Path) -> None:
    a = save_image(tmp_path / "a.png", size=SIZE)
    b = darker(a, tmp_path / "b.png")
    assert [kind for kind, *_ in near(record(a, "benign"), record(b, "unknown"))] == ["near-duplicates"]
    assert [kind for kind, *_ in near(record(a, "normal"), record(b, "unknown"))][1:] == ["conflicting labels"]


def test_where_no_patients_are_named_none_is_under_two_names(tmp_path: Path) -> None:
    a = save_image(tmp_path / "a.png", size=SIZE)
    assert near(record(a), record(darker(a, tmp_path / "b.png"))) == [
        ("near-duplicates", ("d/a", "d/b"), "correlation 1.000")
    ]


def test_a_chain_says_how_unlike_its_ends_are(tmp_path: Path) -> None:
    first, step = np.random.default_rng(0).integers(0, 256, (2, 48, 48)).astype(float)
    frames = [((first + 0.12 * number * step) / 330 * 255).clip(0, 255).astype(np.uint8) for number in range(3)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame).save(path)
    ((kind, ids, detail),) = near(*(record(path) for path in paths))
    assert (kind, ids) == ("near-duplicates", ("d/0", "d/1", "d/2"))
    least = np.corrcoef(frames[0].ravel(), frames[2].ravel())[0, 1]
    assert least < 0.98
    assert detail == f"correlation {least:.3f} of the least alike two"


def test_images_that_cannot_be_read_are_no_duplicates(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_text("no image")
    assert exact(*map(record, paths)) == []
    assert near(*map(record, paths)) == []
