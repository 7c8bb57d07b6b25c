"""A user's own pictures: whatever they come as, they give the pixels that a store would hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from episodes.errors import UserError
from episodes.records import Record
from episodes.sampling.episode import load_support
from episodes.storage.preparation import prepare_store
from episodes.storage.store import Collection
from fewshot.api import grey_image, lesion_mask, listed
from fewshot.inference.support import build_support
from tests.episodes.made_dicom import write_dicom

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
LESION = np.zeros((20, 30), bool)
LESION[5:9, 4:20] = True


def saved(folder: Path, values: NDArray[Any], name: str = "picture.png") -> Path:
    Image.fromarray(values).save(folder / name)
    return folder / name


# Images


@pytest.mark.parametrize(
    "picture",
    [
        GREY,
        GREY.astype(np.int64),
        GREY / 255,
        (GREY / 255).astype(np.float32),
        np.stack([GREY] * 3, axis=2),
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("RGB"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("P"),
    ],
    ids=lambda picture: getattr(picture, "mode", None) or f"{picture.dtype} {picture.ndim}",
)
def test_an_image_has_the_same_grey_values_in_every_form(picture: Any) -> None:
    found = grey_image(picture, "image")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GREY)


def test_colours_are_read_as_from_a_file(tmp_path: Path) -> None:
    transparent = np.dstack([COLOUR, RNG.integers(0, 256, (20, 30), dtype=np.uint8)])
    expected = grey_image(saved(tmp_path, COLOUR), "image")
    for picture in (
        COLOUR,
        transparent,
        transparent / 255,
        Image.fromarray(transparent),
        str(tmp_path / "picture.png"),
    ):
        np.testing.assert_array_equal(grey_image(picture, "image"), expected)


def test_dicom_is_read_from_its_path(tmp_path: Path) -> None:
    image = write_dicom(tmp_path / "image.dcm", GREY)
    mask = write_dicom(tmp_path / "mask", LESION.astype(np.uint8))  # without a suffix, as scanners write
    for picture in (image, str(image)):
        np.testing.assert_array_equal(grey_image(picture, "image"), GREY)
    np.testing.assert_array_equal(lesion_mask(mask, "mask"), LESION)
    clip = write_dicom(tmp_path / "clip.dcm", np.stack([GREY, GREY]))
    with pytest.raises(UserError, match=r"clip\.dcm: holds 2 frames; save the one to use as an image of its own"):
        grey_image(clip, "image")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (GREY.astype(np.uint16) + 300, r"here: expected integers from 0 to 255 or .*, found uint16 from 300 to"),
        (-GREY.astype(np.int16), "here: expected integers .*, found int16 from -255 to 0"),
        (GREY.astype(np.float64), "here: expected .* floats from 0 to 1, found float64 from 0.0 to 255.0"),
        (np.full((2, 2), np.nan), "here: expected .* found float64 from nan to nan"),
        (GREY.astype(str), "here: expected .* found <U"),
        (GREY[0], r"here: has the shape \(30,\); expected \(H, W\) or \(H, W, 3\)"),
        (GREY[:, :, None], r"here: has the shape \(20, 30, 1\); expected"),
        (GREY[:0], r"here: has no pixels, its shape is \(0, 30\)"),
        ("none.png", "none.png is missing"),
    ],
    ids=str,
)
def test_what_is_no_image_is_named(picture: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        grey_image(picture, "here")


# Masks


@pytest.mark.parametrize(
    "picture",
    [
        LESION,
        LESION.astype(np.uint8),
        LESION.astype(np.int64),
        LESION.astype(np.uint8) * 255,
        LESION.astype(np.float64),
        LESION * 0.6,
        np.where(LESION, 200, 100).astype(np.uint8),
        np.dstack([LESION * 0, LESION * 255, LESION * 0]).astype(np.uint8),
        Image.fromarray(LESION),
        Image.fromarray(LESION.astype(np.uint8)),
    ],
    ids=lambda picture: getattr(picture, "mode", None) or f"{picture.dtype} {picture.ndim} {picture.max()}",
)
def test_a_mask_shows_the_same_lesion_in_every_form(picture: Any) -> None:
    np.testing.assert_array_equal(lesion_mask(picture, "mask"), LESION)


@pytest.mark.parametrize("scale", [1, 255])
def test_a_mask_is_read_from_its_file(tmp_path: Path, scale: int) -> None:
    path = saved(tmp_path, LESION.astype(np.uint8) * np.uint8(scale))
    for picture in (path, str(path)):
        np.testing.assert_array_equal(lesion_mask(picture, "mask"), LESION)


def test_an_empty_mask_shows_nothing() -> None:
    assert not lesion_mask(np.zeros((4, 5), np.uint8), "mask").any()
    assert not lesion_mask(np.zeros((4, 5)), "mask").any()


@pytest.mark.parametrize(
    "picture", [LESION * np.uint8(2), LESION * 0.4, LESION * 0.004], ids=["labels", "faint", "fainter"]
)
def test_a_mask_shows_its_lesion_however_dark(picture: Any) -> None:
    np.testing.assert_array_equal(lesion_mask(picture, "here"), LESION)


@pytest.mark.parametrize("picture", [~LESION, np.ones((20, 30)), Image.fromarray(~LESION)], ids=["bool", "one", "bit"])
def test_an_unclear_mask_is_named(picture: Any) -> None:
    with pytest.raises(UserError, match=r"here: (its lesion would hold the border|every pixel is 1)"):
        lesion_mask(picture, "here")


# Sizes


def test_pictures_are_resized_as_a_store_does(tmp_path: Path) -> None:
    image, mask = saved(tmp_path, COLOUR, "a.png"), saved(tmp_path, LESION.astype(np.uint8) * 255, "mask.png")
    for size in (9, 32):
        record = Record("mine", image, (mask,), "benign", "a")
        store = prepare_store([record], tmp_path / "stores", (size, size))
        support = build_support([grey_image(image, "image")], [lesion_mask(mask, "mask")], ["mine"], size)
        expected = load_support(Collection([store]), [[record.id]])
        assert torch.equal(support.images, expected.images)
        assert torch.equal(support.masks, expected.masks)


# Several


def test_several_pictures_are_any_iterable() -> None:
    assert listed((name for name in ("a", "b")), "images") == ["a", "b"]
    assert [image.shape for image in listed(np.zeros((2, 20, 30)), "images")] == [(20, 30)] * 2  # type: ignore[union-attr]
    assert listed([], "images") == []


@pytest.mark.parametrize("picture", ["a.png", Path("a.png"), Image.fromarray(GREY), GREY, COLOUR], ids=type)
def test_a_single_picture_is_not_taken_for_several(picture: Any) -> None:
    with pytest.raises(UserError, match=r"images: found a single picture; give a list of pictures"):
        listed(picture, "images")
