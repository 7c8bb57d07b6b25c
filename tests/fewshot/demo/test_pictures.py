"""Pictures that are written for people and for programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot.demo.images import StoredImage
from fewshot.demo.responses import LIKELY, heat_png, shown_size, stems
from fewshot.demo.sessions import clean_name
from tests.fewshot.demo.conftest import from_png


def test_a_heat_map_covers_the_more_the_more_probable_the_lesion_is() -> None:
    heat = from_png(heat_png(np.array([[0, 128, 255]]) / 255))
    np.testing.assert_array_equal(heat[0, :, 3], [0, 128, 255])
    assert (heat[..., :3] == LIKELY).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((10, 20), (10, 20)), ((2048, 2048), (2048, 2048)), ((1, 40960), (1, 2048))]
)
def test_large_pictures_are_shown_shrunk(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shown_size(size) == expected


@given(st.lists(st.text(), max_size=6))
def test_whatever_images_are_called_their_files_differ_and_lie_where_they_should(names: list[str]) -> None:
    images = [StoredImage(str(place), clean_name(name), None, (1, 1)) for place, name in enumerate(names)]  # type: ignore[arg-type]
    found = stems(images)
    assert len({stem.lower() for stem in found}) == len(names)
    assert all(stem and not set(stem) & set('/\\\0<>:"|?*\n') and stem.strip(". ") == stem for stem in found)


def test_equal_names_are_numbered() -> None:
    images = [StoredImage("", name, None, (1, 1)) for name in ("a.png", "A.jpg", "a-2.png", "b.png")]  # type: ignore[arg-type]
    assert stems(images) == ["a", "A-2", "a-2-2", "b"]
