"""Which images a file, a folder or a pattern means, and what their results are called."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.errors import UserError
from fewshot.inference.inputs import find_inputs
from tests.episodes.made_dicom import gradient, write_dicom

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write pictures of these names into a folder."""

    def write(*names: str) -> Path:
        root = tmp_path / "scans"
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
        return root

    return write


def names(where: str | Path, *without: Path) -> list[str]:
    return [one.name for one in find_inputs(str(where), without).items]


def test_a_folder_is_searched_with_all_below_it_in_order(tree: Tree) -> None:
    root = tree("b.png", "a.jpg", "day 2/a.png", "day 10/x.y.bmp")
    (root / "notes.txt").write_text("no picture")
    assert names(root) == ["a", "b", "day 10/x.y", "day 2/a"]
    found = find_inputs(str(root))
    assert found.root == root
    assert [one.image for one in found.items] == ["a.jpg", "b.png", "day 10/x.y.bmp", "day 2/a.png"]


def test_masks_hidden_files_and_other_folders_are_left_out(tree: Tree) -> None:
    root = tree("images/a.png", "Masks/a.png", "side/b.png", "side/b_mask.png", ".c.png", ".d/e.png", "out/masks/a.png")
    found = find_inputs(str(root), [root / "out"])
    assert [one.name for one in found.items] == ["images/a", "side/b"]
    assert [path.relative_to(root).as_posix() for path in found.left_out] == [
        ".c.png",
        "Masks/a.png",
        "side/b_mask.png",
    ]
    assert names(root / "Masks") == ["a"]  # who names it means it


def test_a_mask_like_name_without_its_image_is_an_image(tree: Tree) -> None:
    assert names(tree("scan_label.png", "other.png")) == ["other", "scan_label"]


def test_a_link_that_leads_back_up_is_not_followed(tree: Tree) -> None:
    root = tree("a.png", "b/c.png")
    (root / "b" / "again").symlink_to(root, target_is_directory=True)
    (root / "b" / "itself").symlink_to(root / "b", target_is_directory=True)
    assert names(root) == ["a", "b/c"]


def test_a_file_is_taken_as_it_is(tree: Tree) -> None:
    root = tree("a [1]*.png", "b.png")
    found = find_inputs(str(root / "a [1]*.png"))
    assert (found.root, [one.name for one in found.items]) == (root, ["a [1]*"])


def test_a_pattern_means_the_pictures_that_it_matches(tree: Tree) -> None:
    root = tree("d1/a.png", "d1/b.png", "d2/a.png", "e/a.png")
    (root / "d1" / "a.txt").write_text("no picture")
    found = find_inputs(str(root / "d*" / "a.*"))
    assert (found.root, [one.name for one in found.items]) == (root, ["d1/a", "d2/a"])
    assert names(root / "**" / "b.png") == ["d1/b"]


def test_no_two_results_have_one_name(tree: Tree) -> None:
    root = tree("a.png", "A.jpg", "a_png.bmp", "b/a.png")
    found = names(root)
    assert sorted(found) == ["A_jpg", "a_png", "a_png-2", "b/a"]


def test_every_frame_is_an_image(tree: Tree) -> None:
    root = tree("clip-0002.png")
    write_dicom(root / "clip.dcm", np.stack([gradient(8, 8)] * 3))
    write_dicom(root / "1.2.840.17", gradient(8, 8))
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2)]
    frames[0].save(root / "pages.tif", save_all=True, append_images=frames[1:])
    found = find_inputs(str(root)).items
    assert [(one.image, one.frame) for one in found] == [
        ("1.2.840.17", None),
        ("clip-0002.png", None),
        *(("clip.dcm", frame) for frame in (1, 2, 3)),
        *(("pages.tif", frame) for frame in (1, 2)),
    ]
    assert len({one.name.lower() for one in found}) == 7
    assert found[2].name == "clip-0001"


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_file_that_cannot_be_read_is_found_out_later(tree: Tree, content: bytes) -> None:
    root = tree("a.png")
    (root / "b.tif").write_bytes(content)
    assert names(root) == ["a", "b"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("none", r"--images none: there is no such file or folder; check the path"),
        ("scans", r"--images scans: no image there; PNG, JPEG, BMP, TIFF, GIF, WebP or DICOM files were looked for"),
        ("scans/*.png", r"--images scans/\*\.png: no image there; PNG"),
        ("masks", r"--images masks: no image there; PNG.*masks/masks/a\.png is left out: named as a mask"),
    ],
)
def test_what_was_looked_for_is_said(
    tree: Tree, where: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("masks/a.png")
    (tmp_path / "scans").rename(tmp_path / "masks")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        find_inputs(where)
