"""Layouts of a user's own folder: what lies where, which mask is whose, and what is open is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes.datasets import folder, read_dataset
from episodes.datasets.folder_layout import read_layout
from episodes.datasets.problems import collected_problems
from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from tests.episodes.datasets.made_trees import save_image, save_mask, write_table
from tests.episodes.made_dicom import SECRETS, gradient, region, write_dicom
from tests.episodes.made_pictures import read_label_map


def masks_of(root: Path) -> dict[str, list[str]]:
    """The masks of each record, as paths within the root."""
    return {
        record.stem: sorted(mask.relative_to(root).as_posix() for mask in record.masks)
        for record in read_dataset("folder", root)
    }


@pytest.mark.parametrize("images", ["images", "Image", "IMGS", "img"])
@pytest.mark.parametrize("masks", ["masks", "Mask", "labels", "GT", "GroundTruth", "annotation", "Segmentations"])
def test_usual_names_of_folders(tmp_path: Path, images: str, masks: str) -> None:
    save_image(tmp_path / images / "a.png")
    save_mask(tmp_path / masks / "a.png")
    assert masks_of(tmp_path) == {"a": [f"{masks}/a.png"]}
    assert str(read_layout(tmp_path)) == f"images in {images}/, masks in {masks}/"


@pytest.mark.parametrize(
    "mask", ["a", "a_mask", "a-seg", "a_GT", "a_label", "mask_a", "a_Segmentation", "a.mask", "a mask"]
)
def test_usual_names_of_masks(tmp_path: Path, mask: str) -> None:
    save_image(tmp_path / "images" / "a.png")
    save_mask(tmp_path / "masks" / f"{mask}.bmp")
    assert masks_of(tmp_path) == {"a": [f"masks/{mask}.bmp"]}


def test_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b_2", "benign (1)"):
        save_image(tmp_path / f"{name}.jpg")
        save_mask(tmp_path / f"{name}_mask.png")
    assert masks_of(tmp_path) == {name: [f"{name}_mask.png"] for name in ("a", "b_2", "benign (1)")}
    assert str(read_layout(tmp_path)) == "images and masks side by side in the folder itself"


def test_numbered_masks_are_one_lesion_map(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    for number, box in (("", (0, 0, 2, 2)), ("_1", (4, 4, 6, 6)), ("_2", (8, 8, 10, 9))):
        save_mask(tmp_path / f"a_mask{number}.png", box)
    (record,) = folder.read(tmp_path)
    assert [mask.name for mask in record.masks] == ["a_mask.png", "a_mask_1.png", "a_mask_2.png"]
    assert (read_label_map(record, (12, 16)) > 0).sum() == 4 + 4 + 2


def test_class_folders_around_side_by_side(tmp_path: Path) -> None:
    for label in ("Benign", "malignant"):
        save_image(tmp_path / label / f"{label} 1.png")
        save_mask(tmp_path / label / f"{label} 1_mask.png")
    save_image(tmp_path / "normal" / "n.png")
    found = {record.stem: (record.label, len(record.masks)) for record in read_dataset("folder", tmp_path)}
    assert found == {"Benign 1": ("benign", 1), "malignant 1": ("malignant", 1), "n": ("normal", 0)}


def test_class_folders_around_images_and_masks(tmp_path: Path) -> None:
    save_image(tmp_path / "benign" / "images" / "a.png")
    save_mask(tmp_path / "benign" / "masks" / "a.png")
    save_image(tmp_path / "malignant" / "b.png")
    save_mask(tmp_path / "malignant" / "b_seg.png")
    save_image(tmp_path / "normal" / "images" / "c.png")
    assert masks_of(tmp_path) == {"a": ["benign/masks/a.png"], "b": ["malignant/b_seg.png"], "c": []}


@pytest.mark.parametrize("masks", ["masks/benign", "masks"])
def test_class_folders_inside_images(tmp_path: Path, masks: str) -> None:
    save_image(tmp_path / "images" / "benign" / "a.png")
    save_mask(tmp_path / masks / "a.png")
    (record,) = folder.read(tmp_path)
    assert (record.label, record.masks) == ("benign", (tmp_path / masks / "a.png",))


def test_a_folder_and_a_table_that_disagree(tmp_path: Path) -> None:
    save_image(tmp_path / "benign" / "a.png")
    save_mask(tmp_path / "benign" / "a_mask.png")
    write_table(tmp_path / "metadata.csv", [("image", "label"), ("a.png", "malignant")])
    with pytest.raises(DatasetError, match=r"metadata\.csv, a\.png: labelled malignant, but it lies in .*benign; mend"):
        folder.read(tmp_path)
    write_table(tmp_path / "metadata.csv", [("image", "label"), ("a.png", "")])
    assert folder.read(tmp_path)[0].label == "benign"


# What can be read in two ways


def test_two_layouts(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.png")
    save_mask(tmp_path / "masks" / "a.png")
    save_image(tmp_path / "benign" / "b.png")
    with pytest.raises(DatasetError, match=r"can be read in two ways: images in images/, masks in masks/; or images"):
        read_layout(tmp_path)


def test_two_folders_of_images(tmp_path: Path) -> None:
    save_image(tmp_path / "img" / "a.png")
    save_mask(tmp_path / "masks" / "a.png")
    (tmp_path / "images").mkdir()
    assert masks_of(tmp_path) == {"a": ["masks/a.png"]}  # an empty folder is no rival
    save_image(tmp_path / "images" / "b.png")
    with pytest.raises(DatasetError, match=r"can be read in two ways: by images/, or by img/; rename one of them"):
        read_layout(tmp_path)


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "a.png")
    for name in ("a.png", "a_mask.png"):
        save_mask(tmp_path / "masks" / name)
    with pytest.raises(DatasetError, match=r"a\.png: a_mask\.png may be the mask of a\.png as well; remove one of the"):
        read_layout(tmp_path)


def test_a_mask_that_may_be_an_image(tmp_path: Path) -> None:
    save_image(tmp_path / "scan_label.png")
    save_mask(tmp_path / "scan_label_mask.png")
    assert masks_of(tmp_path) == {"scan_label": ["scan_label_mask.png"]}
    save_image(tmp_path / "scan.png")
    with pytest.raises(DatasetError, match=r"scan_label\.png: may be the mask of scan\.png, or an image with a mask"):
        read_layout(tmp_path)


# What is missing


def test_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"lacks the folders images/, masks/; give the folder that holds them, or"):
        read_layout(tmp_path)
    save_image(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"; its 1 images have no masks: name them such as a_mask\.png for a\.png"):
        read_layout(tmp_path)
    save_image(tmp_path / "inner" / "images" / "a.png")
    save_mask(tmp_path / "inner" / "masks" / "a.png")
    with pytest.raises(DatasetError, match=r"lacks the folders images/, masks/; .*inner can be read: give that folder"):
        read_layout(tmp_path)
    with pytest.raises(DatasetError, match=r"images lacks the folders images/, masks/; .*inner can be read: give that"):
        read_layout(tmp_path / "inner" / "images")


def test_everything_that_is_wrong_is_listed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_image(tmp_path / "images" / f"{name}.png")
    save_mask(tmp_path / "masks" / "a.png")
    save_mask(tmp_path / "masks" / "z_mask.png")
    with collected_problems() as problems:
        records = folder.read(tmp_path)
    assert [record.stem for record in records] == ["a"]
    assert [(one.kind, one.subject.name) for one in problems] == [
        ("extra file", "z_mask.png"),
        ("missing file", "b.png"),
        ("missing file", "c.png"),
    ]


def test_pictures_beside_the_folders_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_image(tmp_path / "images" / "a.png")
    save_mask(tmp_path / "masks" / "a.png")
    stray = save_image(tmp_path / "overview.png")
    assert masks_of(tmp_path) == {"a": ["masks/a.png"]}
    expected = "it lies beside the folders that are read (images in images/, masks in masks/)"
    assert caplog.messages == [f"{stray}: left out: {expected}"]


# DICOM and frames


def test_dicom_gives_spacing_and_patients(tmp_path: Path) -> None:
    for name, patient in (("b", "HOSPITAL-77"), ("a", "HOSPITAL-99"), ("c", "HOSPITAL-77"), ("d", "")):
        facts = {"SequenceOfUltrasoundRegions": [region(0.02, 0.01)]}
        write_dicom(tmp_path / "images" / f"{name}.dcm", gradient(), patient=patient, facts=facts)
        save_mask(tmp_path / "masks" / f"{name}.png")
    records = read_dataset("folder", tmp_path)
    assert [record.patient for record in records] == ["patient-001", "patient-002", "patient-002", "patient-003"]
    assert all(record.spacing == pytest.approx((0.1, 0.2)) for record in records)
    np.testing.assert_array_equal(read_image(records[0].image), gradient())
    assert not any(secret in repr(records) for secret in SECRETS)
    write_table(
        tmp_path / "metadata.csv",
        [("image", "patient", "spacing_mm"), ("a.dcm", "p", "0.5"), ("b", "", ""), ("c.dcm", "", ""), ("d", "", "")],
    )
    records = read_dataset("folder", tmp_path)
    assert [record.patient for record in records] == ["p", "patient-001", "patient-001", "patient-002"]
    assert records[0].spacing == (0.5, 0.5)


def test_frames_with_a_mask_are_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = np.stack([gradient() // share for share in (1, 2, 3, 4, 5)])
    write_dicom(tmp_path / "images" / "clip.dcm", clip)
    save_mask(tmp_path / "masks" / "clip-0003.png")
    save_mask(tmp_path / "masks" / "clip_0005_mask.png")
    stray = save_mask(tmp_path / "masks" / "clip-0009.png")
    unnumbered = save_mask(tmp_path / "masks" / "clip.png")
    records = read_dataset("folder", tmp_path)
    assert [(record.id, record.frame, record.patient) for record in records] == [
        ("folder/clip-0003", 3, "patient-001"),
        ("folder/clip-0005", 5, "patient-001"),
    ]
    np.testing.assert_array_equal(read_image(records[1].image, records[1].frame), clip[4])
    assert sorted(caplog.messages) == sorted(
        [
            f"{unnumbered}: left out: it does not say of which frame it is the mask; name it such as clip-0001.png",
            f"{stray}: left out: the mask of frame 9, but clip.dcm holds 5, counted from 1",
            f"{tmp_path}: left out: 3 frames of clip.dcm that have no mask",
        ]
    )


def test_frames_of_a_tiff_beside_their_masks(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(gradient() // share) for share in (1, 2, 3))
    first.save(tmp_path / "clip.tif", save_all=True, append_images=others)
    save_mask(tmp_path / "clip-0002.png")
    save_image(tmp_path / "still.png")
    save_mask(tmp_path / "still_mask.png")
    assert masks_of(tmp_path) == {"clip-0002": ["clip-0002.png"], "still": ["still_mask.png"]}
    write_table(tmp_path / "metadata.csv", [("image", "label"), ("clip", "benign"), ("still.png", "malignant")])
    assert [record.label for record in read_dataset("folder", tmp_path)] == ["benign", "malignant"]
    write_table(tmp_path / "metadata.csv", [("image", "label"), ("clip-0002", "malignant"), ("still.png", "malignant")])
    assert [record.label for record in read_dataset("folder", tmp_path)] == ["malignant", "malignant"]


def test_a_clip_without_any_mask(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images" / "clip.dcm", np.stack([gradient()] * 2))
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match=r"clip\.dcm: none of its 2 frames has a mask; add one, such as clip-0001\."):
        folder.read(tmp_path)


def test_a_damaged_header_is_a_complaint(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images" / "a.dcm", gradient())
    (tmp_path / "images" / "b.dcm").write_bytes(b"nothing")
    for name in ("a", "b"):
        save_mask(tmp_path / "masks" / f"{name}.png")
    with collected_problems() as problems:
        assert [record.stem for record in folder.read(tmp_path)] == ["a"]
    assert [(one.kind, one.subject.name) for one in problems] == [("bad value", "b.dcm")]


def test_a_mask_may_be_dicom(tmp_path: Path) -> None:
    write_dicom(tmp_path / "images" / "a.dcm", gradient())
    mask = np.zeros((12, 16), np.uint8)
    mask[2:5, 3:7] = 1
    write_dicom(tmp_path / "masks" / "a.dcm", mask)
    (record,) = folder.read(tmp_path)
    np.testing.assert_array_equal(read_label_map(record, (12, 16)) > 0, mask > 0)


def test_files_named_by_numbers(tmp_path: Path) -> None:
    for name in ("1.2.840.1", "1.2.840.2"):
        write_dicom(tmp_path / "images" / name, gradient())
        save_mask(tmp_path / "masks" / f"{name}.png")
    assert masks_of(tmp_path) == {"1.2.840.1": ["masks/1.2.840.1.png"], "1.2.840.2": ["masks/1.2.840.2.png"]}


def test_busi_reads_as_a_folder_too(shared_data: Path) -> None:
    root = shared_data / "native" / "Dataset_BUSI_with_GT"
    own = {record.stem: (record.label, record.masks) for record in read_dataset("busi", root)}
    assert {record.stem: (record.label, record.masks) for record in read_dataset("folder", root)} == own
