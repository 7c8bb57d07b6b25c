"""Files that cannot be decoded, masks that do not fit, what a dataset states of its images, and files of no record."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from episodes.curation.check import Content, compare_stated_sizes, find_extra_files, find_flags, inspect
from episodes.curation.findings import Finding
from episodes.records import Label, MaskFormat, Record
from tests.episodes.datasets.made_trees import save_image, save_mask

SIZE = (60, 80)
BOX = (20, 20, 40, 40)


def made(
    folder: Path, masks: Sequence[Path], label: Label = "benign", mask_format: MaskFormat = "binary"
) -> tuple[tuple[str, str], ...]:
    """What is found in one image with these masks."""
    image = save_image(folder / "a.png", size=SIZE)
    return found(Record("d", image, tuple(masks), label, "p", mask_format=mask_format))


def found(record: Record) -> tuple[tuple[str, str], ...]:
    findings = inspect(record).findings
    assert {finding.subjects for finding in findings} <= {("d/a",)}
    return tuple((finding.kind, finding.detail) for finding in findings)


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert made(tmp_path, [save_mask(tmp_path / "m.png", BOX, size=SIZE)]) == ()
    assert made(tmp_path, [], "normal") == ()


def test_an_image_that_is_none_and_one_that_breaks_off(tmp_path: Path) -> None:
    image = save_image(tmp_path / "a.png", size=SIZE)
    record = Record("d", image, (), "normal", "p")
    image.write_bytes(image.read_bytes()[:300])
    ((kind, detail),) = found(record)
    assert kind == "truncated or damaged"
    assert detail.startswith(f"{image} cannot be decoded")
    image.write_text("no image")
    assert [kind for kind, _ in found(record)] == ["unreadable"]
    image.unlink()
    assert found(record) == (("missing file", f"{image} is missing; restore the original file"),)


def test_values_without_meaning_are_no_damage(tmp_path: Path) -> None:
    image = tmp_path / "a.tif"
    Image.fromarray(np.full(SIZE, -1, np.float32)).save(image)
    assert [kind for kind, _ in found(Record("d", image, (), "normal", "p"))] == ["unreadable"]


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None)
def test_a_file_cut_anywhere_is_found_unless_no_pixel_is_lost(
    tmp_path_factory: pytest.TempPathFactory, form: str, share: float
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    whole = buffer.getvalue()
    path = tmp_path_factory.mktemp("cut") / "a.png"
    record = Record("d", path, (), "normal", "p")
    path.write_bytes(whole)
    digest = inspect(record).digest
    path.write_bytes(whole[: int(share * len(whole))])
    content = inspect(record)
    kinds = {finding.kind for finding in content.findings}
    # Only the file's last bytes, which mark its end, can be missing without harm.
    assert kinds & {"truncated or damaged", "unreadable"} or content.digest == digest


def test_masks_that_cannot_be_decoded(tmp_path: Path) -> None:
    whole, cut, none = (save_mask(tmp_path / f"{name}.png", BOX, size=SIZE) for name in ("whole", "cut", "none"))
    cut.write_bytes(cut.read_bytes()[:60])
    none.write_text("no mask")
    findings = made(tmp_path, [whole, cut, none, tmp_path / "absent.png"])
    assert [kind for kind, _ in findings] == ["truncated or damaged", "unreadable", "missing file", "several masks"]
    assert str(cut) in findings[0][1]


def test_masks_that_mean_nothing(tmp_path: Path) -> None:
    blue = save_mask(tmp_path / "blue.png", BOX, "RGB", (0, 0, 255), size=SIZE)
    ((kind, detail),) = made(tmp_path, [blue], mask_format="colour")
    assert kind == "unclear mask"
    assert detail.startswith(f"{blue}: the colour (0, 0, 255) is unknown")
    white = tmp_path / "white.png"
    Image.new("L", SIZE[::-1], 255).save(white)
    ((kind, detail),) = made(tmp_path, [white])
    assert kind == "unclear mask"
    assert "every pixel is 255" in detail


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    mask = save_mask(tmp_path / "m.png", BOX, size=(75, 100))
    assert made(tmp_path, [mask]) == (("mask of another size", "m.png is 100 x 75, the image 80 x 60"),)
    turned = save_mask(tmp_path / "t.png", BOX, size=(80, 60))
    ((kind, detail),) = made(tmp_path, [turned])
    assert kind == "unclear mask"
    assert "t.png: is 60 x 80 pixels, but a.png 80 x 60" in detail


def test_masks_against_labels(tmp_path: Path) -> None:
    empty, full = save_mask(tmp_path / "e.png", None, size=SIZE), save_mask(tmp_path / "f.png", BOX, size=SIZE)
    assert made(tmp_path, [empty]) == (("empty lesion mask", "labelled benign, but no pixel is marked"),)
    assert made(tmp_path, []) == (("empty lesion mask", "labelled benign, but no pixel is marked"),)
    marked = "labelled normal, but 8.333 % of the image is marked"  # 400 of 4,800 pixels
    assert made(tmp_path, [full], "normal") == (("normal with lesion", marked),)
    assert made(tmp_path, [full], "unknown") == ()


def test_colours_against_labels(tmp_path: Path) -> None:
    red = save_mask(tmp_path / "red.png", BOX, "RGB", (255, 0, 0), size=SIZE)
    against = (("class against label", "labelled benign, but marked malignant"),)
    assert made(tmp_path, [red], "benign", "colour") == against
    assert made(tmp_path, [red], "malignant", "colour") == ()
    marked = "labelled normal, but 8.333 % of the image is marked"
    assert made(tmp_path, [red], "normal", "colour") == (("normal with lesion", marked),)


def test_tiny_and_several_lesions(tmp_path: Path) -> None:
    mask = save_mask(tmp_path / "m.png", (20, 20, 22, 22), size=SIZE)
    assert made(tmp_path, [mask]) == (("tiny lesion", "0.083 % of the image"),)
    with Image.open(mask) as image:
        image.putpixel((22, 22), 1)  # touches at a corner: still one part
        image.putpixel((70, 50), 1)
        image.save(mask)
    assert made(tmp_path, [mask]) == (("several lesions", "2 separate parts in one mask file"),)
    other = save_mask(tmp_path / "n.png", (0, 0, 9, 9), size=SIZE)
    assert made(tmp_path, [mask, other]) == (
        ("several masks", "2: m.png, n.png"),
        ("several lesions", "3 separate parts in 2 mask files"),
    )


def test_an_image_of_one_grey_value(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("L", SIZE[::-1], 17).save(image)
    record = Record("d", image, (), "normal", "p")
    assert inspect(record).findings == (Finding("blank image", ("d/a",), "every pixel is 17"),)


def test_a_frame_of_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "clip.tif"
    frames = [Image.fromarray(np.full(SIZE, value, np.uint8)) for value in (10, 20)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    (finding,) = inspect(Record("d", path, (), "normal", "p", frame=2)).findings
    assert finding == Finding("blank image", ("d/clip-0002",), "every pixel is 20")


# What a dataset states of its images


def content(size: tuple[int, int] | None, stem: str = "a") -> Content:
    return Content(Record("d", Path(f"{stem}.png"), (), "normal", "p"), (), size)


def kinds(size: tuple[int, int] | None, stated: tuple[int, int]) -> list[str]:
    return [finding.kind for finding in compare_stated_sizes([content(size)], {"a": stated})]


def test_flags() -> None:
    said = {"Doppler": "Yes", "Marks": "No", "Combined": "yes", "Device": "Yes"}
    record = Record("d", Path("a.png"), (), "normal", "p", extra=said)
    assert list(find_flags([record])) == [
        Finding("Doppler overlay", ("d/a",), "Doppler: Yes"),
        Finding("combined image", ("d/a",), "Combined: yes"),
    ]


def test_sizes_as_they_are_stated() -> None:
    assert kinds((606, 856), (606, 856)) == []
    assert kinds(None, (606, 856)) == []
    assert list(compare_stated_sizes([content((5, 5), "b")], {"a": (6, 6)})) == []


# BUS-BRA states 540 x 354 of an image of 540 x 352, which is 256 x 167 in a copy of at most 256 pixels.
@pytest.mark.parametrize(("size", "stated"), [((352, 540), (354, 540)), ((167, 256), (354, 540)), ((60, 80), (80, 60))])
def test_sizes_of_another_shape(size: tuple[int, int], stated: tuple[int, int]) -> None:
    assert kinds(size, stated) == ["size against table"]


@given(height=st.integers(100, 1200), width=st.integers(100, 1200), longest=st.integers(64, 2000))
def test_copies_at_another_scale(height: int, width: int, longest: int) -> None:
    scale = longest / max(height, width)
    copy = (round(height * scale), round(width * scale))
    assert kinds(copy, (height, width)) == (["scaled copy"] if scale != 1 else [])


# Files that no record uses


def test_image_files_that_no_record_uses(tmp_path: Path) -> None:
    record = Record(
        "d", save_image(tmp_path / "images" / "a.png"), (save_mask(tmp_path / "masks" / "a.png"),), "benign", "p"
    )
    save_image(tmp_path / "images" / "notes" / "sketch.JPG")
    save_mask(tmp_path / "masks" / "absent.png")
    told = save_mask(tmp_path / "masks" / "told.png")
    save_mask(tmp_path / "old" / "deep" / "b.png")
    (tmp_path / "readme.txt").write_text("not an image")
    findings = list(find_extra_files([record], tmp_path, [told, tmp_path / "old"]))
    assert [finding.subjects for finding in findings] == [("images/notes/sketch.JPG",), ("masks/absent.png",)]
    assert {(finding.kind, finding.detail) for finding in findings} == {("extra file", "no record uses it")}
