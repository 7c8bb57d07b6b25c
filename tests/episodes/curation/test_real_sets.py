"""The real datasets: what is known to be wrong with them is found."""

from pathlib import Path

import pytest

from episodes.curation.check import check_dataset
from episodes.curation.findings import CheckReport

FOLDERS = {"busi": "Dataset_BUSI_with_GT", "bus_uclm": "BUS-UCLM", "bus_bra": "BUSBRA"}
FAULTS = {
    "missing file",
    "unreadable",
    "truncated or damaged",
    "unknown mask colour",
    "extra file",
    "empty lesion mask",
    "normal with lesion",
    "class against label",
}
PAIRS = [("000", "005"), ("001", "008"), ("002", "009"), ("003", "013")]
ONE_PATIENT = [(f"bus_uclm/CHCO_{one}", f"bus_uclm/CHVI_{other}") for one, other in PAIRS]
CONFLICTS = {
    ("busi/benign (131)", "busi/benign (42)", "busi/malignant (51)"),
    ("busi/benign (399)", "busi/malignant (93)"),
    ("busi/benign (433)", "busi/malignant (145)"),
    ("busi/benign (437)", "busi/normal (34)"),
}
WRONG_SIZES = [f"bus_bra/bus_{name}" for name in ("0856-l", "0857-r", "0912-l", "0990-l")]


def native(shared_data: Path, name: str) -> CheckReport:
    return check_dataset(name, shared_data / "native" / FOLDERS[name])


def groups(report: CheckReport, kind: str) -> list[tuple[str, ...]]:
    return [finding.subjects for finding in report.findings if finding.kind == kind]


def test_native_busi(shared_data: Path) -> None:
    report = native(shared_data, "busi")
    assert set(groups(report, "conflicting labels")) == CONFLICTS
    (same,) = report.of_kind("exact duplicates")
    assert same.subjects == ("busi/benign (433)", "busi/malignant (145)")
    assert same.detail == "the same pixels in byte-identical files"
    assert {"busi/benign (195)", "busi/benign (4)", "busi/benign (54)"} <= set(report.subjects("several masks"))
    assert not report.kinds.keys() & FAULTS


def test_native_bus_uclm(shared_data: Path) -> None:
    report = native(shared_data, "bus_uclm")
    for kind in ("exact duplicates", "near-duplicates", "patient under two names"):
        assert groups(report, kind) == ONE_PATIENT
    smaller = [f"bus_uclm/HESN_00{number}" for number in range(3)]
    assert report.subjects("mask of another size") == report.subjects("size against table") == smaller
    assert report.subjects("Doppler overlay") == ["bus_uclm/POFR_013"]
    assert len(report.of_kind("row without image")) == 683 - report.counts["images"]
    assert not report.loses_data


def test_native_bus_bra(shared_data: Path) -> None:
    report = native(shared_data, "bus_bra")
    assert report.subjects("size against table") == WRONG_SIZES
    assert report.kinds.keys() == {"size against table", "row without image"}
    assert len(report.of_kind("row without image")) == 1875 - report.counts["images"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_full_sets(shared_data: Path, name: str) -> None:
    """Compact copies, in which one more pair of BUSI correlates above 0.99 (0.99002) than in the original files."""
    report = check_dataset(name, shared_data / FOLDERS[name])
    assert report.published.items() <= report.counts.items()
    assert not report.kinds.keys() & FAULTS
    if name == "busi":
        assert (len(groups(report, "near-duplicates")), len(report.subjects("near-duplicates"))) == (56, 126)
        assert set(groups(report, "conflicting labels")) == CONFLICTS
        assert len(report.of_kind("several masks")) == 17
    if name == "bus_uclm":
        assert groups(report, "patient under two names") == ONE_PATIENT
        assert report.subjects("mask of another size") == [f"bus_uclm/HESN_{number:03}" for number in range(13)]
        assert len(report.patients) == 38
        assert {kind: report.kinds[kind] for kind in ("Doppler overlay", "marks on image", "combined image")} == {
            "Doppler overlay": 37,
            "marks on image": 154,
            "combined image": 6,
        }
    if name == "bus_bra":
        assert report.subjects("size against table") == WRONG_SIZES
        assert len(report.of_kind("scaled copy")) == 1871
        assert not report.of_kind("exact duplicates")
