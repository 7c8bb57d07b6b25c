"""DICOM pixels against what was stored, hand-worked windows, and pydicom's own functions as a reference."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from episodes.errors import DatasetError
from episodes.images.decoding import read_frames, read_image, read_size
from episodes.images.rasters import MAX_PIXELS
from episodes.records import Record
from tests.episodes.made_dicom import gradient, write_dicom
from tests.episodes.made_pictures import read_label_map

GREY = gradient()
COLOUR = np.dstack([gradient(), gradient().T.reshape(12, 16), np.full((12, 16), 77, np.uint8)])
LUMA = np.asarray(Image.fromarray(COLOUR).convert("L"))


def encoded(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


# Grey values


def test_eight_bits_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY)
    np.testing.assert_array_equal(read_image(path), GREY)
    assert read_image(path).dtype == np.uint8
    assert (read_size(path), read_frames(path)) == ((12, 16), 1)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", GREY, "MONOCHROME1")), 255 - GREY)


@pytest.mark.parametrize(
    ("dtype", "bits", "stored", "shown"),
    [
        (np.uint16, 12, [0, 2048, 4095], [0, 128, 255]),
        (np.uint16, 16, [0, 32768, 65535], [0, 128, 255]),
        (np.uint16, 10, [0, 100, 1023], [0, 25, 255]),  # 100 * 255 / 1023 = 24.9
        (np.int16, 12, [-2048, 0, 2047], [0, 128, 255]),
        (np.int16, 16, [-32768, 0, 32767], [0, 128, 255]),
        (np.int8, 8, [-128, 0, 127], [0, 128, 255]),
    ],
)
def test_the_whole_range_of_the_stored_bits_is_shown(
    tmp_path: Path, dtype: type, bits: int, stored: list[int], shown: list[int]
) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.array([stored], dtype), bits=bits)
    np.testing.assert_array_equal(read_image(path), [shown])


def test_overlays_above_the_stored_bits_are_dropped(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.array([[0xF000, 0x1FFF]], np.uint16), bits=12)
    np.testing.assert_array_equal(read_image(path), [[0, 255]])


def test_a_falling_slope_inverts(tmp_path: Path) -> None:
    facts = {"RescaleSlope": -1, "RescaleIntercept": 255}
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", GREY, facts=facts)), 255 - GREY)


def test_a_window_is_applied_after_rescaling(tmp_path: Path) -> None:
    # Rescaled to 2 v - 10; the window shows -0.5 + centre - width / 2 + ... : 40 to 60 of LINEAR_EXACT.
    facts = {
        "RescaleSlope": 2,
        "RescaleIntercept": -10,
        "WindowCenter": 50,
        "WindowWidth": 20,
        "VOILUTFunction": "LINEAR_EXACT",
    }
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 25, 30, 35, 200]], np.uint8), facts=facts)
    np.testing.assert_array_equal(read_image(path), [[0, 0, 128, 255, 255]])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(100, 40), (900.5, 1300), ([2000, 10], [4096, 3])])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_against_pydicom(tmp_path: Path, function: str, centre: Any, width: Any, photometric: str) -> None:
    facts = {
        "WindowCenter": centre,
        "WindowWidth": width,
        "VOILUTFunction": function,
        "RescaleSlope": 1.5,
        "RescaleIntercept": -100,
    }
    values = (gradient(40, 50).astype(np.uint16) * 16) % 4096
    path = write_dicom(tmp_path / "a.dcm", values, photometric, bits=12, facts=facts)
    dataset = dcmread(path)
    reference = apply_windowing(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low, high = 1.5 * 0 - 100, 1.5 * 4095 - 100  # the range that pydicom shows into
    expected = np.round(255 * (reference - low) / (high - low))
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(read_image(path) - expected).max() <= 1  # rounded at another place


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 0), ("LINEAR_EXACT", 0), ("SIGMOID", -2), ("CUBIC", 9)])
def test_a_window_that_shows_nothing(tmp_path: Path, function: str, width: float) -> None:
    facts = {"WindowCenter": 50, "WindowWidth": width, "VOILUTFunction": function}
    with pytest.raises(DatasetError, match=rf"a\.dcm: its window \({function}, width {width}\) cannot be used; exp"):
        read_image(write_dicom(tmp_path / "a.dcm", GREY, facts=facts))


# Colours


def test_rgb_becomes_luma(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", COLOUR, "RGB")), LUMA)
    planar = write_dicom(tmp_path / "b.dcm", COLOUR, "RGB")
    dataset = dcmread(planar)
    dataset.PlanarConfiguration, dataset.PixelData = 1, np.moveaxis(COLOUR, 2, 0).tobytes()
    dataset.save_as(planar)
    np.testing.assert_array_equal(read_image(planar), LUMA)


def test_luma_and_chroma_become_the_same_luma(tmp_path: Path) -> None:
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    assert np.abs(read_image(write_dicom(tmp_path / "a.dcm", ybr, "YBR_FULL")).astype(int) - LUMA).max() <= 2


def test_halved_chroma(tmp_path: Path) -> None:
    grey = np.full((4, 6), 128, np.uint8)
    luma = gradient(4, 6)
    halved = np.stack([luma[:, ::2], luma[:, 1::2], grey[:, ::2], grey[:, ::2]], axis=2)  # Y1 Y2 Cb Cr
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 6, 3), np.uint8), "YBR_FULL_422")
    dataset = dcmread(path)
    dataset.PixelData = halved.tobytes()
    dataset.save_as(path)
    assert np.abs(read_image(path).astype(int) - luma).max() <= 1


@pytest.mark.parametrize(("entry_bits", "scale"), [(8, 1), (16, 257)])
def test_a_palette(tmp_path: Path, entry_bits: int, scale: int) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]])
    kind = np.uint16 if entry_bits == 16 else np.uint8
    facts: dict[str, Any] = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        facts[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, entry_bits]
        facts[f"{name}PaletteColorLookupTableData"] = (colours[:, channel] * scale).astype(kind).tobytes()
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 1, 2, 3]], np.uint8), "PALETTE COLOR", facts=facts)
    np.testing.assert_array_equal(read_image(path), [[76, 150, 29, 9]])


# How pixels lie in the file


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: Any) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, syntax=syntax)
    np.testing.assert_array_equal(read_image(path), GREY)


def test_run_lengths(tmp_path: Path) -> None:
    from pydicom.pixels import get_encoder

    path = write_dicom(tmp_path / "a.dcm", GREY)
    frame = next(get_encoder(RLELossless).iter_encode(dcmread(path)))
    path = write_dicom(tmp_path / "b.dcm", GREY, syntax=RLELossless, encoded=[frame])
    np.testing.assert_array_equal(read_image(path), GREY)
    bomb = write_dicom(tmp_path / "c.dcm", GREY, syntax=RLELossless, encoded=[frame + b"\x81\0" * 5000])
    with pytest.raises(DatasetError, match=r"c\.dcm: its pixels are not of the size that it states"):
        read_image(bomb)


def test_jpeg(tmp_path: Path) -> None:
    jpeg = encoded(GREY, "JPEG", quality=95)
    path = write_dicom(tmp_path / "a.dcm", GREY, syntax=JPEGBaseline8Bit, encoded=[jpeg])
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(BytesIO(jpeg))))
    smooth = np.dstack([np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * k for k in (8, 5, 2)])
    jpeg = encoded(smooth, "JPEG", quality=95)
    path = write_dicom(tmp_path / "b.dcm", smooth, "YBR_FULL_422", syntax=JPEGBaseline8Bit, encoded=[jpeg])
    expected = np.asarray(Image.open(BytesIO(jpeg)).convert("L"), int)
    assert np.abs(read_image(path) - expected).max() <= 2


def test_a_jpeg_whose_colours_are_not_what_the_header_says(tmp_path: Path) -> None:
    smooth = np.dstack([np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * k for k in (8, 5, 2)])
    jpeg = encoded(smooth, "JPEG", quality=95)  # luma and chroma, as its JFIF mark tells
    path = write_dicom(tmp_path / "a.dcm", smooth, "RGB", syntax=JPEGBaseline8Bit, encoded=[jpeg])
    expected = np.asarray(Image.open(BytesIO(jpeg)).convert("L"), int)
    assert np.abs(read_image(path) - expected).max() <= 2


def test_jpeg_2000(tmp_path: Path) -> None:
    for pixels, photometric, expected in ((GREY, "MONOCHROME2", GREY), (COLOUR, "YBR_RCT", LUMA)):
        code = encoded(pixels, "JPEG2000", no_jp2=True, irreversible=False, mct=1)
        path = write_dicom(tmp_path / "a.dcm", pixels, photometric, syntax=JPEG2000Lossless, encoded=[code])
        np.testing.assert_array_equal(read_image(path), expected)


def test_a_frame_larger_than_the_file_says(tmp_path: Path) -> None:
    jpeg = encoded(np.zeros((4000, 4000), np.uint8), "JPEG")
    path = write_dicom(tmp_path / "a.dcm", GREY, syntax=JPEGBaseline8Bit, encoded=[jpeg])
    with pytest.raises(DatasetError, match=r"a\.dcm: its pixels are not of the size that it states"):
        read_image(path)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        (JPEGLSLossless, r"are JPEG-LS Lossless Image Compression, which needs a plugin: run `pip install pylibjpeg"),
        (HTJ2KLossless, r"are High-Throughput JPEG 2000 .*, which needs a plugin: run `pip install pylibjpeg"),
        (MPEG2MPML, r"are MPEG2 Main Profile / Main Level, which is not read; export it uncompressed"),
        (DeflatedExplicitVRLittleEndian, r"is deflated as a whole, which is not read; export it uncompressed"),
    ],
)
def test_other_syntaxes_are_named(tmp_path: Path, syntax: Any, message: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, syntax=syntax, encoded=[b"\0\0"])
    for read in (read_image, read_size):
        with pytest.raises(DatasetError, match=message):
            read(path)


# Frames


def test_frames_are_counted_from_one(tmp_path: Path) -> None:
    clip = np.stack([GREY, 255 - GREY, GREY // 2])
    path = write_dicom(tmp_path / "clip.dcm", clip)
    assert read_frames(path) == 3
    for frame, pixels in enumerate(clip, start=1):
        np.testing.assert_array_equal(read_image(path, frame), pixels)
        assert read_size(path, frame) == (12, 16)
    with pytest.raises(DatasetError, match=r"clip\.dcm: holds 3 frames; save the one to use as an image of its own"):
        read_image(path)
    for frame in (0, 4, -1):
        with pytest.raises(DatasetError, match=rf"clip\.dcm: there is no frame {frame}; it holds 3, counted from 1"):
            read_image(path, frame)


def test_frames_of_a_compressed_colour_clip(tmp_path: Path) -> None:
    frames = [encoded(pixels, "JPEG2000", no_jp2=True, irreversible=False, mct=1) for pixels in (COLOUR, 255 - COLOUR)]
    clip = np.stack([COLOUR, 255 - COLOUR])
    path = write_dicom(tmp_path / "clip.dcm", clip, "YBR_RCT", syntax=JPEG2000Lossless, encoded=frames)
    np.testing.assert_array_equal(read_image(path, 1), LUMA)
    np.testing.assert_array_equal(read_image(path, 2), np.asarray(Image.fromarray(255 - COLOUR).convert("L")))


def test_frames_of_a_tiff(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(pixels) for pixels in (GREY, 255 - GREY))
    first.save(tmp_path / "clip.tif", save_all=True, append_images=others)
    assert read_frames(tmp_path / "clip.tif") == 2
    np.testing.assert_array_equal(read_image(tmp_path / "clip.tif", 1), GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "clip.tif", 2), 255 - GREY)
    with pytest.raises(DatasetError, match=r"clip\.tif: there is no frame 3; it holds 2"):
        read_image(tmp_path / "clip.tif", 3)


# Which files are DICOM


def test_names(tmp_path: Path) -> None:
    for name in ("a.dcm", "a.DICOM", "IM_0001", "1.2.840.10008.17"):
        np.testing.assert_array_equal(read_image(write_dicom(tmp_path / name, GREY)), GREY)
    with pytest.raises(DatasetError, match=r"missing\.dcm is missing; restore the original file"):
        read_image(tmp_path / "missing.dcm")
    with pytest.raises(DatasetError, match="missing is missing; restore the original file"):
        read_image(tmp_path / "missing")


# Masks


def mask_record(path: Path) -> Record:
    return Record("made", Path("image.dcm"), (path,), "benign", "p")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("peak", [1, 255])
def test_masks(tmp_path: Path, dtype: Any, peak: int) -> None:
    mask = np.zeros((3, 4), dtype)
    mask[1, 1:3] = peak
    path = write_dicom(tmp_path / "mask.dcm", mask, facts={"WindowCenter": 5, "WindowWidth": 2})
    np.testing.assert_array_equal(read_label_map(mask_record(path), (3, 4)), mask > 0)


def test_a_mask_that_shows_nothing_bright(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "mask.dcm", np.zeros((3, 4), np.uint8), "MONOCHROME1")
    with pytest.raises(DatasetError, match=r"mask\.dcm: a mask in MONOCHROME1, which shows 0 as white; save it as"):
        read_label_map(mask_record(path), (3, 4))
    path = write_dicom(tmp_path / "clip.dcm", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"clip\.dcm: holds 2 frames"):
        read_label_map(mask_record(path), (3, 4))


# What is wrong with a file


def test_limits_hold_before_anything_is_decoded(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY, facts={"Rows": 65000, "Columns": 65000})
    assert MAX_PIXELS < 65000**2
    with pytest.raises(DatasetError, match=r"a\.dcm: 65000 x 65000 pixels exceed the limit of"):
        read_size(path)
    path = write_dicom(tmp_path / "b.dcm", GREY, frames=2_000_000_000)
    with pytest.raises(DatasetError, match=r"b\.dcm: 2000000000 frames exceed the limit of 100000; export fewer"):
        read_size(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.9, 0.97])
def test_files_cut_off(tmp_path: Path, share: float) -> None:
    pixels = gradient(64, 64)
    for name, options in (
        ("a.dcm", {}),
        ("b.dcm", {"syntax": JPEGBaseline8Bit, "encoded": [encoded(pixels, "JPEG")]}),
    ):
        path = write_dicom(tmp_path / name, pixels, **options)  # type: ignore[arg-type]
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DatasetError, match=rf"{name}"):
            read_image(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"Rows": 0}, "Rows is missing or no positive number"),
        ({"BitsAllocated": 32}, "1 samples of 8 in 32 bits; expected 1 or 3 samples"),
        ({"SamplesPerPixel": 4}, "4 samples of 8 in 8 bits; expected"),
        ({"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation is missing or not one of MONOCHROME1, MON"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_image(write_dicom(tmp_path / "a.dcm", GREY, facts=facts))
