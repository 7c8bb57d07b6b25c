"""Images as a scanner exports them: shown, measured in millimetres, and nothing of whom they show."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom, which reads DICOM, is not installed")

from tests.episodes.made_dicom import SECRETS, gradient, region, write_dicom
from tests.fewshot.demo.conftest import Served, from_png


def test_a_dicom_image_is_measured_in_millimetres_and_tells_no_name(served: Served, tmp_path: Path) -> None:
    facts = {"SequenceOfUltrasoundRegions": [region(0.02, 0.01)]}  # centimetres
    path = write_dicom(tmp_path / "a.dcm", gradient(80, 96), facts=facts)
    page = served.visitor()
    taken = page.upload("queries", path.read_bytes(), "a.dcm").json()
    picture = page.ask("GET", f"/queries/{taken['id']}/picture").content
    np.testing.assert_array_equal(from_png(picture), gradient(80, 96))
    answer = page.answer(taken["id"], "2-zero-shot", 0).json()
    assert answer["area"] > 0
    assert answer["area_mm2"] == pytest.approx(answer["area"] * 0.2 * 0.1)
    content = page.ask("POST", "/archive", json={"choice": "2-zero-shot"}).content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        kept = [archive.read(name) for name in archive.namelist()] + [file.read_bytes() for file in served.files()]
        assert f"{answer['area_mm2']:.3f}" in archive.read("predictions.csv").decode()
    assert len(kept) == 6
    assert not [secret for secret in SECRETS for part in (*kept, picture) if secret.encode() in part]


def test_a_clip_is_refused_and_it_is_said_what_to_do(served: Served, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "clip.dcm", np.stack([gradient(80, 96)] * 3))
    refused = served.visitor().upload("queries", path.read_bytes(), "clip.dcm")
    assert refused.status_code == 422
    assert "clip.dcm" in refused.json()["error"]
    assert "3 frames" in refused.json()["error"]
    assert served.files() == []
