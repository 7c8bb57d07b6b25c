"""Masks as users have them: each kind is read right, refused, or doubted, and never read wrong in silence."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from episodes.curation.check import check_dataset
from episodes.datasets import read_dataset
from episodes.datasets.survey import survey
from episodes.errors import DatasetError, UserError
from episodes.images.decoding import read_image, read_size, stretch_labels
from episodes.images.masks import read_binary_mask
from episodes.storage.preparation import prepare_store
from fewshot.api import lesion_mask
from fewshot.data.description import dataset_yaml, doubts
from fewshot.inference.support import load_support_folder
from fewshot.predict.cases import read_truth
from tests.cases.made_masks import (
    KINDS,
    Made,
    colour_map,
    compressed,
    dice,
    ellipse,
    levels,
    palette,
    png,
    random_lesion,
    texture,
    two_lesions,
)
from tests.episodes.made_pictures import read_label_map

SIZE = (90, 120)
WORKING = 64


def lesion_of(number: int) -> NDArray[np.bool_]:
    return ellipse(SIZE, (35 + 8 * number, 45 + 12 * number), (14, 20))


@dataclass
class Folder:
    """A folder of three annotated images."""

    root: Path

    def __post_init__(self) -> None:
        for name in ("images", "masks"):
            (self.root / name).mkdir(parents=True)
        for number in range(3):
            grey = texture(np.random.default_rng(number), lesion_of(number))
            Image.fromarray(grey).save(self.root / "images" / f"s{number}.png")
            Image.fromarray(levels(lesion_of(number), 0, 255)).save(self.mask(number))

    def mask(self, number: int) -> Path:
        return self.root / "masks" / f"s{number}.png"

    def fill(self, save: Callable[[NDArray[np.bool_]], Callable[[Path], None]]) -> "Folder":
        for number in range(3):
            save(lesion_of(number))(self.mask(number))
        return self

    def require_read(self, lesions: Callable[[int], NDArray[np.bool_]] = lesion_of, *, inverted: bool = False) -> None:
        """Everywhere a mask is read, it is read so."""
        records = read_dataset("folder", self.root, invert_masks=inverted)
        support = load_support_folder(self.root, WORKING, invert_masks=inverted)
        for number, record in enumerate(records):
            expected = lesions(number)
            np.testing.assert_array_equal(read_label_map(record, SIZE) > 0, expected)
            truth = read_truth(record.image, record.masks, SIZE, invert_masks=inverted)
            np.testing.assert_array_equal(truth, expected)
            small = stretch_labels(expected.astype(np.uint8), (WORKING, WORKING)) > 0
            np.testing.assert_array_equal(support.masks[0, number] > 0, small)
            if not inverted:
                np.testing.assert_array_equal(lesion_mask(record.masks[0], "mask"), expected)
        found = check_dataset("folder", self.root, invert_masks=inverted).kinds.keys()
        assert not found & {"unclear mask", "doubtful mask", "empty lesion mask"}

    def require_refused(self, message: str, masks: int = 3) -> None:
        """Everywhere a mask is read, it is refused, and named."""
        kind = check_dataset("folder", self.root).of_kind("unclear mask")
        assert len(kind) == masks
        concerned = [record for record in read_dataset("folder", self.root) if record.id in kind[0].subjects]
        for read in (
            lambda: load_support_folder(self.root, WORKING),
            lambda: read_truth(concerned[0].image, concerned[0].masks, SIZE),
            lambda: prepare_store(read_dataset("folder", self.root), self.root / "stores", (WORKING, WORKING)),
        ):
            with pytest.raises(UserError, match=message) as error:
                read()
            assert concerned[0].masks[0].name in str(error.value)
        assert sum(message in line for line in doubts(survey(self.root))) == masks

    def require_doubted(self, message: str) -> None:
        """A support set is refused; a dataset is read, and said to be doubtful."""
        assert len(check_dataset("folder", self.root).of_kind("doubtful mask")) == 3
        assert sum(message in line for line in doubts(survey(self.root))) == 3
        with pytest.raises(UserError, match=message):
            load_support_folder(self.root, WORKING)
        with pytest.raises(UserError, match=message):
            lesion_mask(self.mask(0), "mask")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "mine")


@pytest.mark.parametrize("name", KINDS)
def test_kinds_at_random(tmp_path: Path, name: str) -> None:
    """Each kind, varied, is read as the lesion that was drawn, or refused, or doubted."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        made: Made = KINDS[name](rng, random_lesion(rng, (int(rng.integers(90, 200)), int(rng.integers(120, 260)))))
        path = tmp_path / f"mask{made.suffix}"
        made.save(path)
        if made.outcome == "refused":
            with pytest.raises(DatasetError, match="mask"):
                read_binary_mask(path)
            continue
        found = read_binary_mask(path)
        assert bool(found.doubts) == (made.outcome == "doubted"), (seed, found.doubts)
        if made.outcome == "read":
            assert dice(found.lesion, made.lesion) >= (0.95 if made.lossy else 1), seed


def test_onebit(folder: Folder) -> None:
    folder.fill(png).require_read()


def test_all_white(folder: Folder) -> None:
    folder.fill(lambda a: png(np.full(SIZE, 255, np.uint8))).require_refused("every pixel is 255")


def test_alpha_black(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, (0, 0, 0, 0), (0, 0, 0, 255)))).require_read()


def test_alpha_white(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, (255, 255, 255, 0), (255, 255, 255, 255)))).require_read()


def test_alpha_grey_white(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, (255, 0), (255, 255)))).require_read()


def test_palette_allblack(folder: Folder) -> None:
    folder.fill(lambda a: palette(a, (0, 0, 0), (0, 0, 0))).require_read()


def test_palette_grey_bg(folder: Folder) -> None:
    folder.fill(lambda a: palette(a, (224, 224, 192), (0, 0, 0))).require_read()


def test_palette_white_bg(folder: Folder) -> None:
    folder.fill(lambda a: palette(a, (255, 255, 255), (0, 0, 0))).require_read()


@pytest.mark.parametrize("case", ["imsave_Reds", "imsave_coolwarm", "imsave_tab10", "imsave_viridis"])
def test_imsave(folder: Folder, case: str) -> None:
    folder.fill(lambda a: colour_map(a, case.removeprefix("imsave_"))).require_read()


def test_imsave_gray_r(folder: Folder) -> None:
    folder.fill(lambda a: colour_map(a, "gray_r")).require_refused("--invert-masks")
    folder.require_read(inverted=True)


@pytest.mark.parametrize("case", ["instances_100_200", "instances_127_255", "instances_1_255", "instances_85_170"])
def test_instances(folder: Folder, case: str) -> None:
    low, high = map(int, case.split("_")[1:])

    def both(a: NDArray[np.bool_]) -> Callable[[Path], None]:
        one, other = two_lesions(a)
        return png((one * low + other * high).astype(np.uint8))

    folder.fill(both).require_read(lambda number: np.logical_or(*two_lesions(lesion_of(number))))


def test_inverted(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, 255, 0))).require_refused("`invert: true` of the dataset, or --invert-masks")
    folder.require_read(inverted=True)
    assert "invert: true" in dataset_yaml(survey(folder.root, invert_masks=True), "mine")


def test_inverted_some(folder: Folder) -> None:
    png(levels(lesion_of(1), 255, 0))(folder.mask(1))
    folder.require_refused("else invert this file", masks=1)
    with pytest.raises(UserError, match=r"s0\.png.*it is not inverted like the others"):
        load_support_folder(folder.root, WORKING, invert_masks=True)


def test_a_frame_around_is_not_taken_for_a_light_ground(folder: Folder) -> None:
    """To invert such a mask would make all within the frame a lesion."""

    def framed(a: NDArray[np.bool_]) -> Callable[[Path], None]:
        pixels = np.pad(levels(a, 0, 255)[2:-2, 2:-2], 2, constant_values=255)
        return png(pixels)

    folder.fill(framed).require_refused("as a frame does: if that is a frame, paint it black")
    with pytest.raises(UserError, match=r"covers 8\d % of the picture and 0 % of its border"):
        load_support_folder(folder.root, WORKING, invert_masks=True)


def test_mask_is_image(folder: Folder) -> None:
    folder.fill(lambda a: png(texture(np.random.default_rng(5), a))).require_refused("grey values in between")


def test_mask_is_overlay(folder: Folder) -> None:
    def overlay(a: NDArray[np.bool_]) -> Callable[[Path], None]:
        pixels = np.stack([texture(np.random.default_rng(5), a)] * 3, axis=2)
        pixels[a] = pixels[a] // 2 + np.array([127, 0, 0], np.uint8)
        return png(pixels)

    folder.fill(overlay).require_refused("grey values in between")


def test_outline_only(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a & ~ndimage.binary_erosion(a, iterations=2), 0, 255)))
    folder.require_doubted("an outline that was not filled")


def test_a_doubtful_mask_is_announced_by_a_store(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    png(levels(lesion_of(1) & ~ndimage.binary_erosion(lesion_of(1)), 0, 255))(folder.mask(1))
    png(np.zeros(SIZE, np.uint8))(folder.mask(2))
    (folder.root / "metadata.csv").write_text("image,label\ns0,normal\ns1,benign\ns2,malignant\n")
    with caplog.at_level(logging.WARNING):
        store = prepare_store(read_dataset("folder", folder.root), folder.root / "stores", (WORKING, WORKING))
    assert caplog.messages == [
        "folder: 1 of 3 images labelled benign or malignant, but nothing is marked: taken as normal (first: folder/s2)",
        "folder: 1 of 3 images labelled normal, but a mask marks a lesion: taken as the label says (first: folder/s0)",
        "folder: 1 of 3 images whose mask may not mean what it says: `fewshot data check` says why (first: folder/s1)",
    ]
    assert [record.label for record in store.records] == ["normal", "benign", "normal"]
    assert any("labelled normal though their masks mark a lesion" in line for line in doubts(survey(folder.root)))
    with pytest.raises(UserError, match=r"s0\.png: is labelled normal, but its mask marks a lesion"):
        load_support_folder(folder.root, WORKING, shots=1)


def test_mask_transposed(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, 0, 255).T)).require_refused("give them one size")


def test_mask_cropped(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, 0, 255)[5:-5, 20:-20])).require_refused("give them one size")


def test_a_mask_at_another_scale_is_read_of_a_dataset(folder: Folder) -> None:
    folder.fill(lambda a: png(levels(a, 0, 255)[::2, ::2]))
    report = check_dataset("folder", folder.root)
    assert len(report.of_kind("mask of another size")) == 3
    assert not report.loses_data
    with pytest.raises(UserError, match="give them one size"):
        load_support_folder(folder.root, WORKING)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_2_and_exif_6(folder: Folder, orientation: int) -> None:
    """An image is read as it is seen; its mask, which carries no orientation, fits it."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's transpositions, what undoes the turn
    for number in range(3):
        seen = Image.open(folder.root / "images" / f"s{number}.png").copy()
        stored = seen.transpose(Image.Transpose(back[orientation])) if orientation > 1 else seen
        exif = Image.Exif()
        exif[274] = orientation
        for suffix in ("jpg", "tiff"):
            path = folder.root / f"s{number}.{suffix}"
            stored.save(path, exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
            assert read_size(path) == SIZE
            assert np.abs(read_image(path).astype(int) - np.asarray(seen)).mean() < 6
        (folder.root / "images" / f"s{number}.png").unlink()
        (folder.root / f"s{number}.jpg").rename(folder.root / "images" / f"s{number}.jpg")
        (folder.root / f"s{number}.tiff").unlink()
        mask = Image.fromarray(levels(lesion_of(number), 0, 255))
        if number == 2 and orientation > 1:  # a mask that carries one is turned as well
            mask.transpose(Image.Transpose(back[orientation])).save(folder.mask(number), exif=exif)
    folder.require_read()


def test_support_tiny_lesion(tmp_path: Path) -> None:
    """A lesion that falls between the pixels of the working size is kept, and not called empty."""
    folder = Folder(tmp_path / "mine")
    tiny = np.zeros(SIZE, np.bool_)
    tiny[41, 61] = True
    folder.fill(lambda a: png(levels(tiny, 0, 255)))
    support = load_support_folder(folder.root, 32)
    assert [int(mask.sum()) for mask in support.masks[0]] == [1, 1, 1]
    row, column = np.argwhere(support.masks[0, 0].numpy())[0]
    assert (row, column) == (41 * 32 // SIZE[0], 61 * 32 // SIZE[1])
    store = prepare_store(read_dataset("folder", folder.root), tmp_path / "stores", (32, 32))
    assert [record.label for record in store.records] == ["unknown"] * 3
    assert all(label_map.sum() == 3 for label_map in store.label_maps)


def test_support_and_query_folders_as_they_should_be(folder: Folder) -> None:
    """What nothing is wrong with is read without a word."""
    folder.require_read()
    folder.fill(lambda a: png(compressed(levels(a, 0, 255), 90)))
    assert not check_dataset("folder", folder.root).kinds.keys() & {"unclear mask", "doubtful mask"}
