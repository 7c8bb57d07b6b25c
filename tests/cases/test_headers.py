"""Headers of DICOM files and archives that state what cannot be."""

import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import RLELossless

from episodes.errors import DatasetError
from episodes.images.decoding import read_frames, read_image, read_size
from episodes.images.dicom_header import read_dicom_facts
from tests.cli.conftest import Fewshot
from tests.episodes.made_dicom import gradient, region, write_dicom

GREY = gradient()
RLE = struct.pack("<16L", 1, 64, *[0] * 14) + b"".join(b"\x0b" + bytes(row) + b"\xfd\x00" for row in GREY[:, :12])


def refused(path: Path, words: str) -> None:
    """Every way of reading refuses the file, in one line that names it, and at once."""
    readers: list[Callable[[Path], Any]] = [read_dicom_facts, read_frames, read_size, read_image]
    for read in readers:
        started = time.perf_counter()
        with pytest.raises(DatasetError, match=words) as refusal:
            read(path)
        assert time.perf_counter() - started < 20  # many times what it takes; minutes before
        assert str(path) in str(refusal.value)


# Numbers


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing"]
)
@pytest.mark.parametrize("number", ["1e308", "-1e308", "1e999", "nan", "1e-308"])
def test_rescale_slope_1e308(tmp_path: Path, keyword: str, number: str) -> None:
    facts = {keyword: [number, number] if "Spacing" in keyword else number}
    refused(
        write_dicom(tmp_path / "a.dcm", GREY, facts=facts), rf"{keyword} is .*; expected 0, or a number of 1e-09 to"
    )


def test_numbers_that_scanners_write_are_read(tmp_path: Path) -> None:
    facts = {"RescaleSlope": "0.0001220703125", "RescaleIntercept": "-1024", "WindowCenter": ["40", "400"]}
    path = write_dicom(tmp_path / "a.dcm", GREY, facts=facts | {"WindowWidth": ["80", "2000"]})
    assert read_image(path).shape == GREY.shape


@pytest.mark.parametrize("values", ["0.1", ["0.1", "0.1", "0.1"], ["-0.1", "-0.1"], ["0", "0"], ""])
def test_a_pixel_size_that_is_none_is_unknown(tmp_path: Path, values: str | list[str]) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, facts={"PixelSpacing": values})
    assert read_dicom_facts(path).spacing is None
    assert read_image(path).shape == GREY.shape


def test_a_slope_that_is_lost_beside_the_intercept(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, facts={"RescaleSlope": "1e-9", "RescaleIntercept": "1e9"})
    refused(path, "RescaleSlope 1e-09 is lost beside RescaleIntercept 1e\\+09; export it again")


@pytest.mark.parametrize("number", [1e308, float("inf"), float("nan")])
def test_regions_of_no_size(tmp_path: Path, number: float) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, facts={"SequenceOfUltrasoundRegions": [region(number, 0.01)]})
    refused(path, "PhysicalDelta is ")


@given(
    st.dictionaries(
        st.sampled_from(["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"]),
        st.floats(allow_subnormal=False).map(lambda number: f"{number:.8g}"),
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:::pydicom", "error::RuntimeWarning")
def test_any_numbers_give_grey_values_or_one_line(tmp_path: Path, facts: dict[str, str]) -> None:
    """NumPy's warnings of overflow are errors here."""
    path = write_dicom(tmp_path / "a.dcm", GREY, facts=facts)
    try:
        message = f"{read_image(path).shape}"
    except DatasetError as refusal:
        message = str(refusal)
    assert "cannot be decoded" not in message


# Counts


@pytest.mark.parametrize("undefined", [True, False])
def test_400000_region_items(tmp_path: Path, undefined: bool) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY)
    whole, items = path.read_bytes(), struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 400_000
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if undefined else b""
    sequence = struct.pack("<HH2sHL", 0x0018, 0x6011, b"SQ", 0, 0xFFFFFFFF if undefined else len(items)) + items + end
    place = whole.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    path.write_bytes(whole[:place] + sequence + whole[place:])
    refused(path, "its header holds more than any scanner writes; export the file again")


def test_some_hundred_regions_are_read(tmp_path: Path) -> None:
    facts = {"SequenceOfUltrasoundRegions": [region(0.02, 0.01)] * 500}
    assert read_dicom_facts(write_dicom(tmp_path / "a.dcm", GREY, facts=facts)).spacing == pytest.approx((0.1, 0.2))


@pytest.mark.parametrize("stated", [2, 99_999])
def test_rle_of_99999_frames(fewshot: Fewshot, tmp_path: Path, stated: int) -> None:
    path = write_dicom(tmp_path / "set" / "images" / "a.dcm", GREY, frames=stated, syntax=RLELossless, encoded=[RLE])
    assert path.stat().st_size < 2000
    words = f"states {stated} frames, but holds 1; restore the original file"
    refused(path, words)
    write_dicom(path.with_name("b.dcm"), GREY)
    (tmp_path / "set" / "masks").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray((GREY > 100) * np.uint8(255)).save(tmp_path / "set" / "masks" / name)
    checked = fewshot("data", "check", tmp_path / "set", "--dataset", "folder", "--json")
    assert words in checked.out


def test_clips_of_as_many_frames_as_they_state_are_read(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.stack([GREY] * 3), frames=3, syntax=RLELossless, encoded=[RLE] * 3)
    assert read_frames(path) == 3


def test_a_picture_of_more_frames_than_bytes(tmp_path: Path) -> None:
    """An animated PNG under the name of a GIF, whose header states the frames that there are to come."""
    path = tmp_path / "a.gif"
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1])]
    frames[0].save(path, format="PNG", save_all=True, append_images=frames[1:])
    content = path.read_bytes()
    place = content.index(b"acTL") + 4
    chunk = b"acTL" + struct.pack(">LL", 4_000_000, 0)
    path.write_bytes(content[: place - 4] + chunk + struct.pack(">L", zlib.crc32(chunk)) + content[place + 12 :])
    with pytest.raises(DatasetError, match="states 4000000 frames, more than it can hold; restore the original file"):
        read_frames(path)


# Archives


def zipped(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def test_colon_names(fewshot: Fewshot, tmp_path: Path) -> None:
    """A name that is a device on Windows is refused; colons, which Linux and a Mac can hold, alone are not."""
    ended = fewshot("data", "unpack", zipped(tmp_path / "a.zip", ["set/images/a:b.png", "set/CON.png"]), "out")
    assert ended.status == 1
    assert "'set/CON.png' is a device's name on Windows" in ended.message
    assert not (tmp_path / "out").exists()
    assert fewshot("data", "unpack", zipped(tmp_path / "b.zip", ["set/images/a:b.png"]), "out").status == 0


def test_nfd(fewshot: Fewshot, tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Mü/ü.png") for form in ("NFC", "NFD")]
    assert fewshot("data", "unpack", zipped(tmp_path / "one.zip", names[1:]), "one").status == 0
    ended = fewshot("data", "unpack", zipped(tmp_path / "both.zip", names), "both")
    assert ended.status == 1
    assert "comes in two Unicode forms of one name" in ended.message
    assert not (tmp_path / "both").exists()


def test_dup_same(fewshot: Fewshot, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = zipped(tmp_path / "a.zip", ["set/images/s0.png", "set/masks/s0.png", "set/images/s0.png"])
    ended = fewshot("data", "unpack", archive, "out")
    assert ended.status == 1
    assert "'set/images/s0.png' comes twice" in ended.message
