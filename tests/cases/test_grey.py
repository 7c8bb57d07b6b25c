"""Images of more than 8 bits, and those whose 0 is white, as scanners and scripts export them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from episodes.curation.check import check_dataset
from episodes.datasets import read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.storage.preparation import prepare_store
from fewshot.api import grey_image
from fewshot.demo.images import SessionLimits
from fewshot.demo.sessions import Sessions, take_image
from fewshot.inference.inputs import Spacings, find_inputs
from fewshot.predict.cases import ImageReader
from fewshot.predict.run import _with_one_scale
from fewshot.select import find_candidates
from tests.episodes.made_dicom import write_dicom

SIZE = (45, 60)


def scan(seed: int) -> NDArray[np.uint8]:
    """Speckle of grey values 16 to 255 with a dark lesion, and a corner of either end."""
    rng = np.random.default_rng(seed)
    grey = ndimage.gaussian_filter(rng.uniform(40, 220, SIZE), 0.7)
    grey[15:30, 20:40] *= 0.2
    grey[0, :2] = 16, 255
    return grey.astype(np.uint8)


SCANS = [scan(seed) for seed in range(3)]


def mask() -> Image.Image:
    drawn = np.zeros(SIZE, np.uint8)
    drawn[15:30, 20:40] = 255
    return Image.fromarray(drawn)


def folder_of(root: Path, stored: Sequence[NDArray[np.generic]], suffix: str = "png", white: int | None = None) -> Path:
    """A folder of images with masks; `white` is what a TIFF says of its 0."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for place, pixels in enumerate(stored):
        path = root / "images" / f"s{place}.{suffix}"
        image = Image.fromarray(pixels)
        if white is None:
            image.save(path)
        else:
            image.save(path, tiffinfo={262: white})
        mask().save(root / "masks" / f"s{place}.png")
    return root


def shown(root: Path) -> list[NDArray[np.uint8]]:
    """Images as datasets, predictions, selections and stores of this size decode them, which is alike."""
    records = read_dataset("folder", root)
    of_dataset = [read_image(record.image, record.frame, record.full_scale) for record in records]
    inputs = find_inputs(str(root / "images"))
    _, scales = _with_one_scale([], inputs)
    reader = ImageReader(Spacings(None), {}, scales)
    store = prepare_store(records, root / "stores", SIZE)
    others = [
        [reader.read(one).image for one in inputs.items],
        [read_image(one.image, one.frame, one.full_scale) for one in find_candidates(inputs).values()],
        list(store.images),
    ]
    for other in others:
        np.testing.assert_array_equal(other, of_dataset)
    assert [record.full_scale for record in store.records] == [record.full_scale for record in records]
    return of_dataset


def require_like(found: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.number]]) -> None:
    assert np.abs(np.array(found, float) - np.array(expected, float)).max() <= 1.01


def test_image_10bit_in16(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [grey.astype(np.uint16) * 4 for grey in SCANS])
    require_like(shown(root), SCANS)
    assert check_dataset("folder", root).grey_scales == (
        "3 images of more than 8 bits: 0 to 1023 is shown black to white (10 bits)",
    )


def test_image_12bit_one_dim(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    deep = [grey.astype(np.uint16) * 16 for grey in SCANS]
    deep[1] = SCANS[1] // 18 * np.uint16(16)
    root = folder_of(tmp_path, deep)
    with caplog.at_level(logging.INFO, "episodes"):
        require_like(shown(root), [SCANS[0], SCANS[1] // 18, SCANS[2]])
    assert "folder: 3 images of more than 8 bits: 0 to 4095 is shown black to white (12 bits)" in caplog.text
    report = check_dataset("folder", root)
    assert [(one.subjects, one.detail) for one in report.of_kind("dim image")] == [
        (("folder/s1",), "its brightest value is 14 of 255")
    ]


def test_image_float_z_tif(tmp_path: Path) -> None:
    root = folder_of(tmp_path, [grey.astype(np.float32) / 100 for grey in SCANS], "tif")
    require_like(shown(root), SCANS)
    (line,) = check_dataset("folder", root).grey_scales
    assert line == "3 images of more than 8 bits: 0 to 2.55 is shown black to white"


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32])
def test_tiff_miniswhite16(tmp_path: Path, depth: type) -> None:
    if depth is np.uint8:  # which Pillow inverts as it saves them
        stored: list[NDArray[np.generic]] = [*SCANS]
    else:
        stored = [((255 - grey.astype(int)) * (257 if depth is np.uint16 else 1 / 255)).astype(depth) for grey in SCANS]
    root = folder_of(tmp_path, stored, "tif", white=0)
    require_like(shown(root), SCANS)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dcm_left_justified(tmp_path: Path, photometric: str) -> None:
    for grey in SCANS:
        values = 255 - grey if photometric == "MONOCHROME1" else grey
        path = write_dicom(tmp_path / "a.dcm", values.astype(np.uint16) * 16 * 16, photometric, bits=12, high_bit=15)
        require_like([read_image(path)], [grey * (255 * 16 / 4095) if photometric == "MONOCHROME2" else grey])


@given(bits=st.integers(8, 15), above=st.integers(0, 7), signed=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_stored_bits_wherever_they_lie(
    tmp_path_factory: pytest.TempPathFactory, bits: int, above: int, signed: bool, seed: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rng = np.random.default_rng(seed)
    above = min(above, 16 - bits)
    low = -(2 ** (bits - 1)) if signed else 0
    values = rng.integers(low, low + 2**bits, SIZE)
    dtype = np.int16 if signed else np.uint16
    plain = write_dicom(folder / "plain.dcm", values.astype(dtype), bits=bits)
    shift = 16 - bits - above
    # What lies below and above belongs to others, such as an overlay.
    noise = rng.integers(0, 2**16, SIZE) & ~(((1 << bits) - 1) << shift)
    stored = (((values & ((1 << bits) - 1)) << shift) | noise).astype(np.uint16).view(dtype)
    moved = write_dicom(folder / "moved.dcm", stored, bits=bits, high_bit=bits - 1 + shift)
    np.testing.assert_array_equal(read_image(moved), read_image(plain))


@pytest.mark.parametrize("high_bit", [3, 16])
def test_a_high_bit_that_cannot_be(tmp_path: Path, high_bit: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", SCANS[0].astype(np.uint16), bits=12, high_bit=high_bit)
    with pytest.raises(DatasetError, match=rf"a\.dcm: HighBit is {high_bit} of 12 bits stored in 16; expected 11"):
        read_image(path)


@given(
    bits=st.sampled_from([10, 12, 14, 16]),
    gains=st.lists(st.floats(0.02, 1), min_size=1, max_size=3),
    suffix=st.sampled_from(["png", "tif"]),
)
@settings(max_examples=15, deadline=None)
def test_a_dim_image_stays_as_dim_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, bits: int, gains: list[float], suffix: str
) -> None:
    """Whatever is beside it: one bright image of the same depth makes the scale."""
    expected = [grey * float(gain) for grey, gain in zip(SCANS, [1, *gains], strict=False)]
    deep = [(grey * ((2**bits - 1) / 255)).astype(np.uint16) for grey in expected]
    require_like(shown(folder_of(tmp_path_factory.mktemp("dim"), deep, suffix)), expected)


def test_depths_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Pictures of 8 bits have no scale to choose, and fractions another one than integers."""
    root = folder_of(tmp_path, [SCANS[0], SCANS[1].astype(np.uint16) * 4, SCANS[2].astype(np.float32) / 255], "tif")
    require_like(shown(root), SCANS)
    assert [record.full_scale for record in read_dataset("folder", root)] == [None, 1023, 1]
    np.testing.assert_array_equal(shown(root)[0], SCANS[0])


def test_a_tiff_of_12_bits_says_so(tmp_path: Path) -> None:
    packed = bytearray()
    dim = SCANS[0].astype(int) // 16
    for first, second in dim.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    whole = Image.fromarray(SCANS[0].astype(np.uint16))
    path = tmp_path / "a.tif"
    whole.save(path)
    content = path.read_bytes()
    with Image.open(path) as image:
        (at,), entries = image.tag_v2[273], image.tag_v2
    assert entries[258] == (16,)
    content = content[:at] + bytes(packed).ljust(2 * dim.size, b"\0") + content[at + 2 * dim.size :]
    path.write_bytes(content.replace(bytes([2, 1, 3, 0, 1, 0, 0, 0, 16, 0]), bytes([2, 1, 3, 0, 1, 0, 0, 0, 12, 0])))
    (record,) = read_dataset("folder", folder_with(tmp_path / "set", path))
    assert record.full_scale == 4095
    assert read_image(record.image, full_scale=record.full_scale).max() <= 1


def folder_with(root: Path, image: Path) -> Path:
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "images" / image.name).write_bytes(image.read_bytes())
    mask().save(root / "masks" / f"{image.stem}.png")
    return root


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_failures_of_that_file(tmp_path: Path, value: float) -> None:
    floats = [grey.astype(np.float32) / 100 for grey in SCANS]
    floats[1][3, 3] = value
    report = check_dataset("folder", folder_of(tmp_path, floats, "tif"))
    assert [one.subjects for one in report.of_kind("unreadable")] == [("folder/s1",)]
    assert "holds values that are no numbers" in report.of_kind("unreadable")[0].detail
    assert report.loses_data
    assert report.grey_scales[0].startswith("2 images of more than 8 bits: 0 to 2.55 ")


def test_a_dim_support_image_beside_brighter_ones(tmp_path: Path) -> None:
    """One annotated image, whose own values would fit 8 bits, is taken as those that it is the support of."""
    support = folder_of(tmp_path / "support", [SCANS[1] // 18 * np.uint16(16)])
    folder_of(tmp_path / "all", [grey.astype(np.uint16) * 16 for grey in SCANS])
    inputs = find_inputs(str(tmp_path / "all" / "images"))
    (alone,) = read_dataset("folder", support)
    (together,), scales = _with_one_scale([alone], inputs)
    assert (alone.full_scale, together.full_scale, set(scales.values())) == (255, 4095, {4095})


def test_an_upload_says_what_is_assumed_of_it(tmp_path: Path) -> None:
    session = Sessions(tmp_path, SessionLimits()).open()
    for pixels, told in [
        (SCANS[0].astype(np.uint16) * 4, "0 to 1023 is shown black to white (10 bits)"),
        (SCANS[0], ""),
    ]:
        upload = session.folder / "upload.png"
        Image.fromarray(pixels).save(upload)
        image = take_image(upload, session, "mine.png")
        assert image.grey_scale == told
        require_like([read_image(image.path)], [SCANS[0]])


def test_files_given_to_python_together_have_one_scale(tmp_path: Path) -> None:
    from fewshot.api import _full_scales

    root = folder_of(tmp_path, [SCANS[0].astype(np.uint16) * 16, SCANS[1] // 18 * np.uint16(16)])
    paths = sorted((root / "images").iterdir())
    pictures = [paths[0], SCANS[2], str(paths[1])]
    scales = _full_scales(pictures)
    assert scales == [4095, None, 4095]
    found = [grey_image(one, "image", scale) for one, scale in zip(pictures, scales, strict=True)]
    require_like(found, [SCANS[0], SCANS[2], SCANS[1] // 18])
