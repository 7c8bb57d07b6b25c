"""How large pixels are: by a table, by DICOM, or by the user."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.errors import UserError
from episodes.images.spacing import parse_spacing
from fewshot.inference.inputs import Spacings, find_inputs, read_metadata_beside
from tests.episodes.made_dicom import gradient, write_dicom


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic" / "images"
    write_dicom(folder / "a.dcm", gradient(8, 8), facts={"PixelSpacing": [0.2, 0.3]})
    write_dicom(folder / "b.dcm", gradient(8, 8), facts={"PixelSpacing": [0.2, 0.3]})
    write_dicom(folder / "d.dcm", np.stack([gradient(8, 8)] * 2))
    Image.fromarray(gradient(8, 8)).save(folder / "c.png")
    return folder


def spacings(images: Path, otherwise: tuple[float, float] | None = None) -> dict[str, tuple[float, float] | None]:
    inputs = find_inputs(str(images))
    known = Spacings(read_metadata_beside(inputs), otherwise)
    return {one.name: known.of(one) for one in inputs.items}


def test_the_table_comes_before_dicom_and_dicom_before_the_user(images: Path) -> None:
    (images.parent / "metadata.csv").write_text("image,spacing_mm\na.dcm,0.5\nc,0.1 x 0.12\nd-0002,0.7\n")
    assert spacings(images) == {
        "a": (0.5, 0.5),
        "b": (0.2, 0.3),
        "c": (0.1, 0.12),
        "d-0001": None,
        "d-0002": (0.7, 0.7),
    }
    assert spacings(images, (0.9, 0.9))["d-0001"] == (0.9, 0.9)
    assert spacings(images, (0.9, 0.9))["b"] == (0.2, 0.3)


def test_without_a_table(images: Path) -> None:
    assert spacings(images) == {"a": (0.2, 0.3), "b": (0.2, 0.3), "c": None, "d-0001": None, "d-0002": None}


def test_a_table_among_the_images_counts_and_need_not_state_sizes(images: Path) -> None:
    (images / "metadata.csv").write_text("image,patient,spacing_mm\nc.png,p1,\na.dcm,p2,0.4\n")
    assert spacings(images)["a"] == (0.4, 0.4)
    assert spacings(images)["c"] is None


@pytest.mark.parametrize("text", ["", "a", "0", "-1", "0.1 0.2 0.3", "nan", "inf", "0.1mm"])
def test_what_is_no_size_is_told(images: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"^--spacing: .* is no size in millimetres; write such as 0\.1 or 0\.1x0\.12$"):
        parse_spacing(text, "--spacing")
    if text not in ("", "nan"):
        (images / "metadata.csv").write_text(f"image,spacing_mm\na.dcm,{text}\n")
        with pytest.raises(UserError, match=r"metadata\.csv, a: spacing_mm: .* is no size"):
            spacings(images)
