"""Masks, probabilities and overlays as other programs, and our own readers, read them."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor
from scipy import ndimage

from episodes.datasets import read_dataset
from episodes.phantoms.layouts import write_bus_uclm
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.api import lesion_mask
from fewshot.results.pictures import (
    BENIGN,
    LESION,
    MALIGNANT,
    WHITE,
    mask_png,
    overlay_png,
    png,
    probability_png,
    write_map,
    write_mask,
)
from tests.episodes.made_pictures import read_label_map


def pixels(content: bytes) -> NDArray[Any]:
    return np.asarray(Image.open(BytesIO(content)))


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], label_map: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(overlay_png(image, mask, label_map))).convert("RGB"))


def test_a_mask_is_0_and_255() -> None:
    mask = np.array([[True, False], [False, True]])
    found = pixels(mask_png(mask))
    assert found.dtype == np.uint8
    assert found.tolist() == [[255, 0], [0, 255]]


def test_classes_are_read_back_by_the_reader_of_bus_uclm(tmp_path: Path) -> None:
    write_bus_uclm(generate(PhantomSpec("linear", 4, size=32)), tmp_path)
    record = read_dataset("bus_uclm", tmp_path)[0]
    label_map = np.zeros((32, 32), np.uint8)
    label_map[3:9, 4:20], label_map[20:25, 5:6] = 1, 2
    record.masks[0].write_bytes(mask_png(label_map > 0, label_map))
    np.testing.assert_array_equal(read_label_map(record, (32, 32)), label_map)


def test_probabilities_have_16_bits() -> None:
    found = pixels(probability_png(np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)))
    assert found.tolist() == [[0, 16384], [32768, 65535]]
    assert found.dtype == np.uint16


def test_an_outline_lies_on_the_mask_s_own_border() -> None:
    image = np.full((20, 24), 200, np.uint8)
    mask = np.zeros((20, 24), bool)
    mask[5:12, 6:15] = True
    found = overlay(image, mask)
    line = (found == ImageColor.getrgb(LESION)).all(2)
    border = mask.copy()
    border[6:11, 7:14] = False
    np.testing.assert_array_equal(line, border)
    seam = np.zeros_like(mask)
    seam[4:13, 5:16] = True
    np.testing.assert_array_equal(found[seam & ~mask], 66)
    np.testing.assert_array_equal(found[~seam], 200)
    np.testing.assert_array_equal(found[6:11, 7:14], 200)
    assert (image == 200).all()


@pytest.mark.parametrize("edge", [(slice(None), slice(0, 5)), (slice(15, None), slice(None))])
def test_an_outline_is_closed_at_the_image_s_edge(edge: tuple[slice, slice]) -> None:
    mask = np.zeros((20, 24), bool)
    mask[edge] = True
    line = (overlay(np.zeros((20, 24), np.uint8), mask) == ImageColor.getrgb(LESION)).all(2)
    assert line[edge][0].all()
    assert line[edge][:, 0].all()
    assert not line[~mask].any()
    assert not overlay(np.zeros((20, 24), np.uint8), ~mask & mask).any()


def test_classes_have_their_colours() -> None:
    label_map = np.zeros((20, 24), np.uint8)
    label_map[2:8, 2:8], label_map[12:18, 10:20] = 1, 2
    found = overlay(np.zeros((20, 24), np.uint8), label_map > 0, label_map)
    assert tuple(found[2, 2]) == ImageColor.getrgb(BENIGN)
    assert tuple(found[12, 10]) == ImageColor.getrgb(MALIGNANT)


def test_a_mask_is_black_and_white_and_reads_back_as_a_users_mask(tmp_path: Path) -> None:
    mask = np.zeros((7, 11), np.bool_)
    mask[2:5, 3:9] = True
    path = write_mask(tmp_path / "masks" / "a.png", mask)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), np.where(mask, 255, 0))
    np.testing.assert_array_equal(lesion_mask(path, "mask"), mask)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_map_has_sixteen_bits(tmp_path: Path, kind: type) -> None:
    values = np.array([[0.0, 0.5, 1.0], [1 / 65535, 0.25, 0.1]], dtype=kind)
    path = write_map(tmp_path / "map.png", values)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "I;16")
        assert np.asarray(image).tolist() == [[0, 32768, 65535], [1, 16384, 6554]]


@pytest.mark.parametrize("mask", [np.zeros((2, 2)), np.zeros((1, 2, 2), bool), np.zeros((0, 2), bool)])
def test_what_is_no_mask_is_refused(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected booleans"):
        write_mask(tmp_path / "mask.png", mask)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [[[0.5, 1.01]], [[-0.1, 0.5]], [[0.5, float("nan")]], [0.5], [[]]])
def test_what_is_no_map_is_refused(tmp_path: Path, values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected \[0, 1\]|expected \(H, W\)"):
        write_map(tmp_path / "map.png", np.array(values))
    assert not list(tmp_path.iterdir())


def test_any_size_and_depth_is_read_back_as_it_was() -> None:
    random = np.random.default_rng(0)
    for shape in ((1, 1), (3, 7), (40, 33), (5, 9, 3), (31, 2, 4)):
        values = random.integers(0, 256, shape).astype(np.uint8)
        np.testing.assert_array_equal(pixels(png(values)), values)
    deep = random.integers(0, 65536, (17, 29)).astype(np.uint16)
    np.testing.assert_array_equal(pixels(png(deep)), deep)


def test_overlays_are_those_of_plain_filters() -> None:
    """Against SciPy's rank filters over the whole image."""
    random = np.random.default_rng(1)
    for size in ((1, 5), (24, 31), (450, 460)):
        image = np.minimum(random.integers(0, 256, size), WHITE).astype(np.uint8)
        for blur in (0.5, 6):
            mask = ndimage.gaussian_filter(random.normal(size=size), blur) > 0
            side = 2 * max(1, round(min(size) / 300)) + 1
            line = mask & ~ndimage.minimum_filter(mask, side, mode="constant")
            seam = ndimage.maximum_filter(mask, side, mode="constant") & ~mask
            expected = np.repeat(np.where(seam, image // 3, image)[..., None], 3, axis=2)
            expected[line] = ImageColor.getrgb(LESION)
            np.testing.assert_array_equal(overlay(image, mask), expected)
