"""Files that no record uses."""

from pathlib import Path

from episodes.curation.check import find_extra_files
from episodes.records import Record
from tests.episodes.datasets.made_trees import save_image, save_mask


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
