"""The facts of a DICOM file: spacing, frames, and patients that are told apart but not named."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import DatasetError
from episodes.images.decoding import read_image
from episodes.images.dicom_header import is_dicom, read_dicom_facts
from tests.episodes.made_dicom import SECRETS, gradient, region, write_dicom

GREY = gradient()


def test_facts(tmp_path: Path) -> None:
    facts = read_dicom_facts(write_dicom(tmp_path / "a.dcm", GREY, facts={"PixelSpacing": [0.1, 0.2]}))
    assert (facts.size, facts.frames, facts.samples, facts.bits) == ((12, 16), 1, 1, 8)
    assert facts.spacing == (0.1, 0.2)  # row, column


@pytest.mark.parametrize(
    ("facts", "spacing"),
    [
        ({}, None),
        ({"ImagerPixelSpacing": [0.3, 0.4]}, (0.3, 0.4)),
        ({"ImagerPixelSpacing": [0.3, 0.4], "PixelSpacing": [0.1, 0.2]}, (0.1, 0.2)),
        ({"PixelSpacing": [0, 0.2]}, None),
        # Centimetres along X (columns) and Y (rows); the sign is the axis' direction.
        ({"SequenceOfUltrasoundRegions": [region(0.02, -0.01)]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01)], "PixelSpacing": [9, 9]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01, units=4)]}, None),  # seconds
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01, spatial_format=3)]}, None),  # a trace
        ({"SequenceOfUltrasoundRegions": [region(0.5, 0.5, units=4), region(0.02, 0.01)]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01), region(0.02001, 0.01)]}, (0.1, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.01), region(0.03, 0.01)]}, None),  # two scales
    ],
)
def test_spacing(tmp_path: Path, facts: dict[str, Any], spacing: tuple[float, float] | None) -> None:
    found = read_dicom_facts(write_dicom(tmp_path / "a.dcm", GREY, facts=facts)).spacing
    assert found == (None if spacing is None else pytest.approx(spacing))


def test_patients_are_told_apart_but_not_named(tmp_path: Path) -> None:
    one, same, other, none = (
        read_dicom_facts(write_dicom(tmp_path / f"{number}.dcm", GREY, patient=patient))
        for number, patient in enumerate(("HOSPITAL-77", "HOSPITAL-77 ", "HOSPITAL-78", ""))
    )
    assert one.identity == same.identity
    assert one.identity["PatientID"] != other.identity["PatientID"]
    assert list(none.identity) == ["StudyInstanceUID", "PatientName"]
    assert not any(key in repr(one) for key in one.identity.values())
    assert not any(secret in f"{one}{one.identity}" for secret in SECRETS)


@pytest.mark.parametrize(("value", "may"), [("NO", False), ("YES", True), (None, True)])
def test_names_in_the_picture(tmp_path: Path, value: str | None, may: bool) -> None:
    facts = {"BurnedInAnnotation": value} if value else {}
    assert read_dicom_facts(write_dicom(tmp_path / "a.dcm", GREY, facts=facts)).may_show_names is may


def test_which_files_are_dicom(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "a.dcm", GREY).read_bytes()
    for name in ("b", "IM_0001", "1.2.840.3", "c.DICOM", "d.IMA", "e.000", "f.v2"):
        (tmp_path / name).write_bytes(whole)
        assert is_dicom(tmp_path / name)
    for name in ("DICOMDIR", ".hidden", "a.png"):
        (tmp_path / name).write_bytes(whole)
        assert not is_dicom(tmp_path / name)
    (tmp_path / "README").write_text("no image")
    assert not is_dicom(tmp_path / "README")
    (tmp_path / "wrong.dcm").write_text("no image")
    with pytest.raises(DatasetError, match=r"wrong\.dcm is no DICOM file: the mark DICM is missing; restore the ori"):
        read_image(tmp_path / "wrong.dcm")


def test_errors_quote_nothing_of_the_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY)
    whole = path.read_bytes()
    for at in range(132, len(whole) - len(GREY.tobytes()), 7):
        path.write_bytes(whole[:at] + b"\xff\x00\x41\x19" + whole[at + 4 :])
        try:
            assert read_image(path).shape
        except DatasetError as error:
            said = str(error).removeprefix(str(path))
            assert not any(secret in said for secret in SECRETS)
            assert "\n" not in said


def test_without_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", GREY)
    ordinary = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "pydicom":
            raise ImportError(name)
        return ordinary(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(DatasetError, match=r"a\.dcm: DICOM needs pydicom: run `pip install 'fewshot-bus\[data\]'`"):
        read_image(path)
