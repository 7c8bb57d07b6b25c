"""A whole dataset checked: what is found, in which order, and what it is compared with."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from episodes.curation.check import check_dataset, check_records
from episodes.curation.findings import KINDS, CheckReport, Finding, Kind
from episodes.datasets import folder, read_dataset
from episodes.errors import DatasetError
from episodes.phantoms.layouts import write_folder
from episodes.phantoms.population import PhantomSpec, generate
from tests.episodes.datasets.made_trees import save_image, save_mask, write_table

SIZE = (60, 80)
BOX = (20, 20, 40, 40)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean folder dataset of four images of two patients."""
    rows = [("image", "label", "patient")]
    for seed, label in enumerate(("benign", "malignant", "normal", "unknown")):
        save_image(tmp_path / "images" / f"{label}.png", seed, size=SIZE)
        save_mask(tmp_path / "masks" / f"{label}.png", None if label == "normal" else BOX, size=SIZE)
        rows.append((label, label, f"p{seed // 2}"))
    write_table(tmp_path / "metadata.csv", rows)
    return tmp_path


def check_folder(root: Path) -> CheckReport:
    return check_dataset("folder", root)


def test_a_clean_dataset(root: Path) -> None:
    assert check_folder(root) == CheckReport(
        dataset="folder",
        root=str(root),
        counts={"images": 4, "patients": 2, "normal": 1, "benign": 1, "malignant": 1, "unknown": 1},
        published={},
        patients={"p0": {"benign": 1, "malignant": 1}, "p1": {"normal": 1, "unknown": 1}},
        findings=(),
    )


def test_records_can_be_checked_without_their_reader(root: Path) -> None:
    assert check_records(folder.read(root), root) == check_folder(root)


def test_all_that_the_reader_would_stop_at_is_listed(root: Path) -> None:
    (root / "masks" / "benign.png").unlink()
    save_image(root / "images" / "new.png", 7, size=SIZE)
    table = root / "metadata.csv"
    table.write_text(table.read_text().replace("malignant,malignant", "malignant,cancer") + "lost,benign,p3\n")
    with pytest.raises(DatasetError):
        read_dataset("folder", root)
    report = check_folder(root)
    found = {kind: report.subjects(kind) for kind in report.kinds if kind != "extra file"}
    assert found == {
        "missing file": ["images/benign.png"],
        "missing row": ["images/new.png"],
        "bad label": ["images/malignant.png"],
        "row without image": ["lost"],
        "one patient": ["folder/normal", "folder/unknown"],
    }
    assert report.counts["images"] == 2
    assert report.loses_data
    # Paths are given within the root, which is named once.
    assert not [finding for finding in report.findings if str(root) in finding.detail]


def test_a_dataset_of_which_nothing_can_be_used_is_reported(root: Path) -> None:
    for path in (root / "masks").iterdir():
        path.unlink()
    write_table(root / "metadata.csv", [("image", "label"), *((f.stem, "benign") for f in (root / "images").iterdir())])
    report = check_folder(root)
    assert (report.dataset, report.counts["images"]) == ("folder", 0)
    assert report.kinds == {"missing file": 4}


def test_a_folder_of_another_layout_is_an_error(root: Path) -> None:
    with pytest.raises(DatasetError, match="lacks the folders benign/, malignant/, normal/"):
        check_dataset("busi", root)


def test_what_was_published_stands_beside_what_is_there(tmp_path: Path) -> None:
    rows = [("Image", "Label", "Resolution", "Doppler", "Marks", "Combined")]
    for seed, name in enumerate(("AAAA_000", "AAAA_001", "BBBB_000")):
        save_image(tmp_path / "images" / f"{name}.png", seed, size=SIZE)
        save_mask(tmp_path / "masks" / f"{name}.png", BOX, "RGB", (0, 255, 0), size=SIZE)
        rows.append((f"{name}.png", "Benign", "80x60", "No", "No", "No"))
    write_table(tmp_path / "INFO.csv", [*rows, ("cut", "short")], delimiter=";")
    report = check_dataset("bus_uclm", tmp_path)
    assert report.published == {"images": 683, "benign": 174, "malignant": 90, "normal": 419, "patients": 38}
    assert [report.difference(name) for name in ("images", "patients", "benign", "unknown")] == [-680, -36, -171, None]
    # The row that is cut short is told of once, though the table is read twice: for labels, and for stated sizes.
    assert report.kinds == {"bad row": 1}


def test_a_reader_of_ones_own_may_publish_counts_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    (tmp_path / "my_reader.py").write_text(
        "from episodes.datasets.folder import read\n"
        "def read_mine(root):\n"
        "    return read(root, 'mine')\n"
        "PUBLISHED = {'benign': 3}\n"
        "def stated_sizes(root):\n"
        "    return {'benign': (90, 80)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    report = check_dataset("my_reader:read_mine", root)
    assert report.difference("benign") == -2
    assert report.findings == (Finding("size against table", ("mine/benign",), "80 x 60, but 80 x 90 in the table"),)


def test_findings_come_in_the_order_of_kinds(root: Path) -> None:
    shutil.copy(root / "images" / "benign.png", root / "images" / "unknown.png")
    (root / "masks" / "malignant.png").write_text("no mask")
    save_mask(root / "masks" / "benign.png", (20, 20, 22, 22), size=(61, 80))
    kinds = list(check_folder(root).kinds)
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert kinds[0] == "unreadable"
    assert kinds[-1] == "tiny lesion"


def test_every_kind_is_in_the_table() -> None:
    kinds = [kind for group in get_args(Kind) for kind in get_args(group)]
    assert sorted(kinds) == sorted(KINDS)
    assert all(facts.done for facts in KINDS.values())


def test_progress(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    check_dataset("folder", root, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_json_holds_everything(root: Path) -> None:
    (root / "masks" / "benign.png").write_bytes(b"")
    shutil.copy(root / "images" / "malignant.png", root / "images" / "unknown.png")
    plain = json.loads(json.dumps(check_folder(root).as_json()))
    assert plain["counts"]["images"] == {"here": 4, "published": None, "difference": None}
    assert plain["patients"]["p1"] == {"normal": 1, "unknown": 1}
    assert plain["kinds"]["unreadable"] == {
        "findings": 1,
        "subjects": 1,
        "done": "restore the file",
        "loses_data": True,
    }
    assert plain["kinds"]["near-duplicates"]["subjects"] == 2
    assert plain["findings"][0]["kind"] == "unreadable"
    assert plain["findings"][-1] == {
        "kind": "near-duplicates",
        "subjects": ["folder/malignant", "folder/unknown"],
        "detail": "correlation 1.000",
    }


def test_nothing_readable(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    assert check_folder(root).kinds == {"unreadable": 4}


def test_phantoms_have_no_faults(tmp_path: Path) -> None:
    write_folder(generate(PhantomSpec("linear", n_images=12, size=64)), tmp_path)
    report = check_folder(tmp_path)
    assert report.counts["images"] == 12
    assert report.kinds.keys() <= {"several lesions", "near-duplicates", "tiny lesion"}
