import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops

from episodes.datasets import read_dataset
from episodes.errors import DatasetError
from episodes.images.decoding import read_image, read_size, stretch_labels
from episodes.images.rasters import MAX_PIXELS
from episodes.records import LABEL_VALUES, Label, MaskFormat, Record
from tests.episodes.made_pictures import read_label_map

GREY = np.array([[0, 1, 127, 128], [200, 254, 255, 77]], np.uint8)


def record_of(*masks: Path, label: Label = "benign", mask_format: MaskFormat = "binary") -> Record:
    return Record("made", Path("image.png"), masks, label, "p", mask_format=mask_format)


def save(path: Path, pixels: NDArray[np.generic] | list[list[object]], mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path)
    return path


def colours(path: Path, *pixels: tuple[int, ...]) -> Path:
    """One row of pixels."""
    return save(path, np.array([pixels], np.uint8))


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and holds next to nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_every_8_bit_mode_gives_the_same_greys(tmp_path: Path, mode: str, suffix: str) -> None:
    path = save(tmp_path / f"image.{suffix}", GREY, mode)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)
    assert read_size(path) == (2, 4)


def test_black_and_white(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", GREY > 127)), np.where(GREY > 127, 255, 0))


def test_colours_become_luma(tmp_path: Path) -> None:
    path = colours(tmp_path / "a.png", (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9))
    np.testing.assert_array_equal(read_image(path), [[76, 150, 29, 9]])  # 0.299, 0.587, 0.114


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    path = colours(tmp_path / "a.png", (200, 200, 200, 0), (200, 200, 200, 128), (3, 3, 3, 255))
    np.testing.assert_array_equal(read_image(path), [[200, 200, 3]])
    path = save(tmp_path / "b.png", np.array([[[200, 0], [3, 255]]], np.uint8))
    np.testing.assert_array_equal(read_image(path), [[200, 3]])


def test_a_transparent_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 255, 255, 50, 50, 50])
    image.save(tmp_path / "a.png", transparency=b"\x00\x00\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[0, 255, 50]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 32768, 65535], [0, 128, 255]),  # 16 bits
        ([0, 8192, 16383], [0, 128, 255]),  # 14 bits in 16
        ([0, 2048, 4095], [0, 128, 255]),  # 12 bits in 16
        ([0, 512, 1023], [0, 128, 255]),  # 10 bits in 16
        ([0, 100, 255], [0, 100, 255]),  # 8 bits in 16
    ],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_are_scaled(tmp_path: Path, values: list[int], expected: list[int], dtype: type) -> None:
    path = save(tmp_path / "a.tiff", np.array([values], dtype))
    np.testing.assert_array_equal(read_image(path), [expected])


def test_floats_between_0_and_1(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(read_image(path), [[0, 128, 255]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, r"a\.tiff: values outside 0\.\.65535; save it as 8 or 16 bit image"),
        (65536, r"a\.tiff: values outside 0\.\.65535; save it as 8 or 16 bit image"),
        (np.nan, r"a\.tiff: holds values that are no numbers \(NaN or infinite\); save it without them"),
        (np.inf, r"a\.tiff: holds values that are no numbers \(NaN or infinite\); save it without them"),
    ],
)
def test_values_without_a_scale(tmp_path: Path, value: float, message: str) -> None:
    path = save(tmp_path / "a.tiff", np.array([[0, value]], np.float32))
    with pytest.raises(DatasetError, match=message):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_an_exif_orientation_is_applied(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to show
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(GREY, -1))
    assert read_size(path) == (4, 2)


def test_an_orientation_behind_the_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    path = save(tmp_path / "a.png", GREY)
    path.write_bytes(path.read_bytes()[:-12] + chunk + path.read_bytes()[-12:])
    np.testing.assert_array_equal(read_image(path), np.rot90(GREY))
    assert read_size(path) == (4, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow's
@given(st.binary(max_size=60))
@settings(max_examples=50, deadline=None)
def test_damaged_facts_beside_a_whole_picture(tmp_path_factory: pytest.TempPathFactory, facts: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "facts.jpg"
    Image.fromarray(GREY).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08" + facts)
    assert read_image(path).shape == read_size(path)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(DatasetError, match=r"a\.png is missing; restore the original file"):
        read_image(path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = save(path, noise).read_bytes()
    for content in (b"", b"no image at all", whole[:20], whole[: len(whole) // 2], whole[:-200]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"a\.png cannot be decoded \(.*\); restore the original file"):
            read_image(path)
    jpeg = save(tmp_path / "a.jpg", noise)
    jpeg.write_bytes(jpeg.read_bytes()[:-500])
    with pytest.raises(DatasetError, match=r"a\.jpg cannot be decoded \(.*truncated.*\)"):
        read_image(jpeg)


@given(st.integers(8, 300), st.binary(min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_overwritten_bytes_decode_or_raise_a_dataset_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, content: bytes
) -> None:
    path = save(tmp_path_factory.getbasetemp() / "fuzz.png", np.arange(900, dtype=np.uint8).reshape(30, 30) * 3)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + content + whole[at + len(content) :])
    with suppress(DatasetError):
        assert read_image(path).dtype == np.uint8


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10_000, 10_000), (100_000, 100_000)])
def test_decompression_bombs(tmp_path: Path, width: int, height: int) -> None:
    assert width * height > MAX_PIXELS
    path = png_of_size(tmp_path / "bomb.png", width, height)
    for read in (read_image, read_size):
        with pytest.raises(DatasetError, match=r"bomb\.png.*(pixels exceed|pixels\) exceeds) "):
            read(path)


def test_other_formats_and_several_frames(tmp_path: Path) -> None:
    save(tmp_path / "a.ppm", GREY)
    with pytest.raises(DatasetError, match=r"a\.ppm cannot be decoded \(cannot identify"):
        read_image(tmp_path / "a.ppm")
    frame = Image.fromarray(GREY)
    frame.save(tmp_path / "a.tiff", save_all=True, append_images=[frame, frame])
    with pytest.raises(DatasetError, match=r"a\.tiff: holds 3 frames; save the one to use as an image of its own"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("label", ["benign", "malignant", "unknown", "normal"])
def test_binary_masks_take_the_value_of_the_label(tmp_path: Path, label: Label) -> None:
    mask = save(tmp_path / "a.png", GREY > 127)
    expected = np.where(GREY > 127, LABEL_VALUES[label], 0)
    np.testing.assert_array_equal(read_label_map(record_of(mask, label=label), (2, 4)), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@given(masks=st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=0, max_size=3))
@settings(max_examples=10, deadline=None)
def test_the_lesion_is_the_union_of_the_masks(
    tmp_path_factory: pytest.TempPathFactory, mode: str, masks: list[list[bool]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    paths = []
    for number, mask in enumerate(masks):
        grey = np.array(mask).reshape(3, 4) * np.uint8(255)
        path = folder / f"union{number}.png"
        paths.append(save(path, grey.astype(np.uint16) * 257) if mode == "I;16" else save(path, grey, mode))
    expected = [[any(mask[4 * y + x] for mask in masks) for x in range(4)] for y in range(3)]
    np.testing.assert_array_equal(read_label_map(record_of(*paths), (3, 4)), expected)


def test_alpha_never_marks_a_lesion(tmp_path: Path) -> None:
    opaque_black, clear_black, clear_white = (0, 0, 0, 255), (0, 0, 0, 0), (255, 255, 255, 0)
    mask = colours(tmp_path / "a.png", opaque_black, clear_black, clear_white, (255, 255, 255, 255))
    np.testing.assert_array_equal(read_label_map(record_of(mask), (1, 4)), [[0, 0, 1, 1]])


def test_any_colour_marks_a_lesion_in_a_binary_mask(tmp_path: Path) -> None:
    mask = colours(tmp_path / "a.png", (255, 0, 0), (0, 128, 0), (0, 0, 255), (0, 0, 0))
    np.testing.assert_array_equal(read_label_map(record_of(mask), (1, 4)), [[1, 1, 1, 0]])


def test_masks_of_0_and_1(tmp_path: Path) -> None:
    mask = save(tmp_path / "a.png", np.array([[0, 1, 1]], np.uint8))
    np.testing.assert_array_equal(read_label_map(record_of(mask, label="malignant"), (1, 3)), [[0, 2, 2]])


def test_a_mask_too_dark_to_hold_a_colour(tmp_path: Path) -> None:
    mask = save(tmp_path / "a.png", np.array([[0, 2, 100]], np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png: its brightest value is 100; a mask is black \(0\) with lesi"):
        read_label_map(record_of(mask, mask_format="colour"), (1, 3))


def test_colour_masks_say_the_class_per_pixel(tmp_path: Path) -> None:
    mask = colours(tmp_path / "a.png", (0, 0, 0), (0, 255, 0), (255, 0, 0))
    for label in ("benign", "malignant", "normal"):
        record = record_of(mask, label=label, mask_format="colour")
        np.testing.assert_array_equal(read_label_map(record, (1, 3)), [[0, 1, 2]])


def test_blends_at_the_edges_of_coloured_lesions(tmp_path: Path) -> None:
    mask = colours(
        tmp_path / "a.png",
        *((0, 140, 0), (140, 0, 0)),  # with black, mostly lesion
        *((0, 120, 0), (120, 0, 0)),  # mostly black
        *((100, 155, 0), (155, 100, 0)),  # of the two
        *((8, 250, 12), (250, 12, 8)),  # lossy
    )
    label_map = read_label_map(record_of(mask, mask_format="colour"), (1, 8))
    np.testing.assert_array_equal(label_map, [[1, 2, 0, 0, 1, 2, 1, 2]])


@pytest.mark.parametrize("colour", [(255, 255, 0), (255, 255, 255), (0, 0, 255), (255, 0, 255), (128, 128, 128)])
def test_unknown_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    mask = colours(tmp_path / "a.png", (0, 255, 0), colour)
    with pytest.raises(DatasetError) as error:
        read_label_map(record_of(mask, mask_format="colour"), (1, 2))
    assert str(error.value).startswith(f"{mask}: the colour {colour} is unknown; expected black, green (0, 255, 0)")


def test_malignant_wins_where_masks_overlap(tmp_path: Path) -> None:
    red = colours(tmp_path / "red.png", (255, 0, 0), (255, 0, 0), (0, 0, 0))
    green = colours(tmp_path / "green.png", (0, 255, 0), (0, 0, 0), (0, 255, 0))
    for masks in ((red, green), (green, red)):
        label_map = read_label_map(record_of(*masks, mask_format="colour"), (1, 3))
        np.testing.assert_array_equal(label_map, [[2, 2, 1]])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_mask_of_another_size_takes_the_nearest_pixel(
    height: int, width: int, to_height: int, to_width: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    label_map = stretch_labels(mask.astype(np.uint8), (to_height, to_width))
    if label_map.sum() == 1 < mask.size:
        return  # the pixel may have been kept from vanishing
    assert label_map.shape == (to_height, to_width)
    for y, x in np.ndindex(to_height, to_width):
        # The pixel under the centre of the new one; where that lies between two, either will do.
        (row, between_rows), (column, between_columns) = (
            divmod((2 * place + 1) * old, 2 * new) for place, old, new in ((y, height, to_height), (x, width, to_width))
        )
        if between_rows and between_columns:
            assert label_map[y, x] == mask[row, column]


def test_no_masks(tmp_path: Path) -> None:
    label_map = read_label_map(record_of(label="normal"), (3, 5))
    assert (label_map.shape, label_map.dtype, label_map.any()) == ((3, 5), np.uint8, False)


def reference_label_map(record: Record, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode with Pillow's own operations on whole channels."""
    total = Image.new("L", size[::-1])
    for path in record.masks:
        with Image.open(path) as mask:
            red, green, blue = mask.convert("RGBA").convert("RGB").resize(size[::-1], 0).split()
        if record.mask_format == "colour":
            benign, malignant = (channel.point(lambda v: int(v > 127)) for channel in (green, red))
            part = ImageChops.add(benign, malignant.point(lambda v: 2 * v))
        else:
            value = LABEL_VALUES[record.label]
            union = ImageChops.lighter(ImageChops.lighter(red, green), blue)
            part = union.point([0] * 128 + [value] * 128)
        total = ImageChops.lighter(total, part)
    return np.asarray(total)


NATIVE = [("busi", "Dataset_BUSI_with_GT"), ("bus_uclm", "BUS-UCLM"), ("bus_bra", "BUSBRA")]


@pytest.mark.parametrize(("name", "folder"), NATIVE)
def test_native_files_against_the_reference(shared_data: Path, name: str, folder: str) -> None:
    check_against_the_reference(name, shared_data / "native" / folder)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "folder"), NATIVE)
def test_full_sets_against_the_reference(shared_data: Path, name: str, folder: str) -> None:
    check_against_the_reference(name, shared_data / folder)


def check_against_the_reference(name: str, root: Path) -> None:
    for record in read_dataset(name, root):
        image = read_image(record.image)
        with Image.open(record.image) as reference:
            np.testing.assert_array_equal(image, np.asarray(reference.convert("L")))
        size = image.shape[0], image.shape[1]
        label_map = read_label_map(record, size)
        np.testing.assert_array_equal(label_map, reference_label_map(record, size))
        assert set(np.unique(label_map)) == {0, LABEL_VALUES[record.label]}
