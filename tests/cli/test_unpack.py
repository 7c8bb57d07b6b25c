"""`fewshot data unpack`: from an archive to the next command."""

import zipfile
from pathlib import Path

from tests.cli.conftest import Fewshot


def test_unpack(fewshot: Fewshot, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "BUSI.zip", "w") as archive:
        archive.writestr("Dataset BUSI/benign/a.png", b"x" * 100_000)
        archive.writestr("__MACOSX/._a.png", b"x")
    ended = fewshot("data", "unpack", "BUSI.zip", "busi")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines() == [
        "busi: 1 files of 0.1 MB (1 that a desktop had added were left out)",
        "Next: fewshot data init 'busi/Dataset BUSI/benign'",
    ]
    again = fewshot("data", "unpack", "BUSI.zip", "busi")
    assert again.status == 1
    assert "busi: exists already; choose another name, so that nothing is overwritten" in again.message
