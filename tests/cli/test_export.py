"""`fewshot export` as a user calls it."""

from pathlib import Path

import pytest

from tests.cli.conftest import Fewshot
from tests.fewshot.export.test_run import write_plain

pytest.importorskip("onnxruntime")


def test_a_supervised_model_is_written_and_checked(fewshot: Fewshot, tmp_path: Path) -> None:
    checkpoint = write_plain(tmp_path, "unet")
    ended = fewshot("export", checkpoint, "--out", tmp_path / "model.onnx", "flips=true")
    assert ended.status == 0, ended.err
    assert ended.out == f"{tmp_path / 'model.onnx'}\n"
    assert "differs by" in ended.err
    assert "torch.onnx" not in ended.err
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--out model.onnx", 1, "none.safetensors: no such checkpoint"),
        ("--out model.pt2", 1, "ends in .onnx"),
        ("", 2, "Missing option '--out'"),
        ("--out model.onnx flips", 2, "'flips': expected key=value"),
        ("--out model.onnx --support nowhere", 1, "none.safetensors: no such checkpoint"),
    ],
)
def test_wrong_words_are_said(fewshot: Fewshot, arguments: str, status: int, message: str) -> None:
    ended = fewshot("export", "none.safetensors", *arguments.split())
    assert (ended.status, message in ended.message) == (status, True), ended.err
    assert not Path("model.onnx").exists()
