from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.api import lesion_mask
from fewshot.results.pictures import write_map, write_mask


def test_a_mask_is_black_and_white_and_reads_back_as_a_users_mask(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((7, 11)) > 0.5
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
