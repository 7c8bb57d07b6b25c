"""Known masks, found by their names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.errors import UserError
from fewshot.inference.inputs import find_inputs
from fewshot.predict.cases import find_truths, read_truth
from tests.episodes.made_dicom import gradient, write_dicom


def save(path: Path, value: int = 255, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def truths(tmp_path: Path, images: list[str], masks: list[str]) -> dict[str, list[str]]:
    for name in images:
        save(tmp_path / "images" / name)
    for name in masks:
        save(tmp_path / "truth" / name)
    inputs = find_inputs(str(tmp_path / "images")).items
    found, _ = find_truths(tmp_path / "truth", inputs)
    return {
        one.image: [path.relative_to(tmp_path / "truth").as_posix() for path in found[one.key]]
        for one in inputs
        if one.key in found
    }


def test_a_mask_bears_its_image_s_name_or_an_affix(tmp_path: Path) -> None:
    found = truths(tmp_path, ["a.png", "b.jpg", "c.png"], ["a.png", "b_mask.png", "b_mask_1.png", "other.png"])
    assert found == {"a.png": ["a.png"], "b.jpg": ["b_mask.png", "b_mask_1.png"]}


def test_the_same_sub_folder_comes_first_then_a_name_of_its_own(tmp_path: Path) -> None:
    found = truths(tmp_path, ["x/a.png", "y/a.png", "y/b.png"], ["x/a.png", "y/a.png", "b.png", "a.png"])
    assert found == {"x/a.png": ["x/a.png"], "y/a.png": ["y/a.png"], "y/b.png": ["b.png"]}


def test_masks_of_frames(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images" / "clip.dcm", np.stack([gradient(8, 8)] * 3))
    mask = save(tmp_path / "truth" / "clip-0002.png")
    inputs = find_inputs(str(tmp_path / "images")).items
    assert find_truths(tmp_path / "truth", inputs)[0] == {("clip.dcm", 2): (mask,)}


def test_masks_beside_their_images(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    mask = save(tmp_path / "a_mask.png")
    inputs = find_inputs(str(tmp_path)).items
    assert find_truths(tmp_path, inputs)[0] == {("a.png", 0): (mask,)}


def test_where_there_is_none_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"truth: none of its 1 pictures can be the mask of an image"):
        truths(tmp_path, ["a.png"], ["b.png"])
    with pytest.raises(UserError, match=r"--masks .*none: there is no such folder"):
        find_truths(tmp_path / "none", find_inputs(str(tmp_path / "images")).items)


def test_masks_are_joined_whatever_their_colour(tmp_path: Path) -> None:
    one, other = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    one[0, 0], other[3, 3] = (255, 0, 0), (0, 255, 0)
    paths = [tmp_path / "one.png", tmp_path / "other.png"]
    for path, pixels in zip(paths, (one, other), strict=True):
        Image.fromarray(pixels).save(path)
    assert np.argwhere(read_truth(paths[0], paths, (4, 4))).tolist() == [[0, 0], [3, 3]]
