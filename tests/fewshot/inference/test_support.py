"""A folder of annotated images as a support set."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from episodes.datasets import read_dataset
from episodes.errors import UserError
from episodes.sampling.episode import load_support
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.inference.support import image_hashes, load_support_folder, support_hashes
from tests.fewshot.made_stores import SIZE, Made, made_store, picture, write_made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [Made(name, "benign", picture(number)) for number, name in enumerate(("b", "c", "a"))]
    return write_made(tmp_path / "support", images)


def test_images_come_by_name_with_their_masks(folder: Path) -> None:
    support = load_support_folder(folder, SIZE)
    assert support.ids == (("folder/a", "folder/b", "folder/c"),)
    expected = torch.from_numpy(np.stack([picture(2), picture(0), picture(1)])).float() / 255
    torch.testing.assert_close(support.images[0], expected[:, None].expand(-1, 3, -1, -1))
    assert support.masks.shape == (1, 3, SIZE, SIZE)
    assert support.masks.sum((2, 3)).tolist() == [[16 * 24] * 3]


@pytest.mark.parametrize("shots", [1, 2, 3])
def test_the_first_shots_are_taken(folder: Path, shots: int) -> None:
    assert load_support_folder(folder, SIZE, shots).ids[0] == ("folder/a", "folder/b", "folder/c")[:shots]


def test_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    load_support_folder(folder, SIZE)
    assert {path.name for path in tmp_path.iterdir()} == {"support"}


def test_a_support_set_has_the_tensors_of_a_store(folder: Path, tmp_path: Path) -> None:
    store = prepare_store(read_dataset("folder", folder), tmp_path / "stores", (32, 32))
    expected = load_support(Collection([store]), [[record.id for record in store.records]])
    found = load_support_folder(folder, 32)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.masks, expected.masks)
    assert found.ids == expected.ids


def test_images_that_show_the_same_under_different_labels_are_named(tmp_path: Path) -> None:
    images = [Made("a", "benign", picture(0)), Made("b", "malignant", picture(0)), Made("c", "benign", picture(1))]
    folder = write_made(tmp_path / "same", images)
    with pytest.raises(UserError, match=r"same: folder/a, folder/b: show the same, but their labels differ; correct"):
        load_support_folder(folder, SIZE)


def test_images_are_stretched_to_the_working_size(folder: Path) -> None:
    assert load_support_folder(folder, 32).images.shape == (1, 3, 3, 32, 32)


def test_fewer_images_than_shots_are_counted(folder: Path) -> None:
    with pytest.raises(UserError, match=r"support: holds 3 images, of which 4 were asked for; lower --shots"):
        load_support_folder(folder, SIZE, 4)


def test_an_empty_mask_is_named_unless_its_image_is_not_taken(folder: Path) -> None:
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(folder / "masks" / "b.png")
    assert load_support_folder(folder, SIZE, 1).ids == (("folder/a",),)
    with pytest.raises(UserError, match=r"folder/b: the mask is empty; outline the lesion or take the image out"):
        load_support_folder(folder, SIZE)


def test_images_without_masks_are_refused(folder: Path) -> None:
    (folder / "masks" / "c.png").unlink()
    with pytest.raises(UserError, match=r"c\.png"):
        load_support_folder(folder, SIZE)
    for mask in (folder / "masks").iterdir():
        mask.unlink()
    (folder / "masks").rmdir()
    with pytest.raises(UserError, match="masks"):
        load_support_folder(folder, SIZE)


def test_support_images_are_known_again_under_other_names(folder: Path, tmp_path: Path) -> None:
    store = made_store(tmp_path, [Made(f"other{number}", "malignant", picture(number)) for number in range(4)])
    hashes = image_hashes(store.images[:])
    assert len(set(hashes)) == 4
    assert set(support_hashes(load_support_folder(folder, SIZE))) == set(hashes[:3])
