"""The README's Python examples, run as a reader would; documents name nothing that is not there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from episodes.phantoms.layouts import write_busi
from episodes.phantoms.population import PhantomSpec, generate
from fewshot.checkpoints import network_tensors, save_checkpoint
from fewshot.results.rows import write_table
from fewshot.results.summary import summarise
from tests.fewshot.made_results import study
from tests.fewshot.small_networks import ENCODER, MODELS, small_network

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def example(mentions: str) -> str:
    (block,) = [block for block in BLOCKS if mentions in block]
    return block


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a checkpoint and four annotated images, as the current directory."""
    facts = {
        "encoder": ENCODER.model_dump(mode="json"),
        "model": MODELS["panet"].model_dump(mode="json"),
        "image_size": 64,
    }
    save_checkpoint(tmp_path / "runs/panet/checkpoint.safetensors", network_tensors(small_network("panet")), facts)
    random = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(random.integers(0, 256, (90, 120), np.uint8)).save(tmp_path / f"{name}.png")
        mask = np.zeros((90, 120), np.uint8)
        mask[30:60, 40:80] = 255
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@pytest.mark.usefixtures("folder")
def test_from_a_checkpoint_and_two_annotated_images_to_masks() -> None:
    found: dict[str, list[np.ndarray]] = {}
    exec(example("fewshot.api"), {}, found)  # noqa: S102 - it is our own README
    assert [mask.shape for mask in found["masks"]] == [(90, 120)] * 2
    assert all(mask.dtype == np.bool_ for mask in found["masks"])
    (probability,) = found["probabilities"]
    np.testing.assert_array_equal(probability > 0.5, found["masks"][0])


def test_one_episode_of_a_dataset(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_busi(generate(PhantomSpec("linear", 12, 0, 64)), folder / "data/Dataset_BUSI_with_GT")
    exec(example("sampler[123]"), {})  # noqa: S102 - it is our own README
    assert capsys.readouterr().out == "torch.Size([2, 1, 3, 256, 256])\n"


@pytest.mark.usefixtures("folder")
def test_the_results_table_in_pandas_gives_the_table_of_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    results = study(("portable",))
    write_table(Path("runs/phantom/results.parquet"), results)
    found: dict[str, Any] = {}
    exec(example("read_parquet"), found)  # noqa: S102 - it is our own README
    means = found["dice"].groupby(["target", "method", "shot"]).mean()
    rows = summarise(results, ["portable"])
    expected = {(row.target, row.method, row.shot): row.dice.estimate for row in rows}
    assert means.to_dict() == pytest.approx(expected)
    assert "U-Net fine-tuned" in capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_files_that_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [document.parent / link for link in re.findall(r"\]\(((?!https?:)[^)#]+)", text)]
    paths = [ROOT / path for path in re.findall(r"`((?:episodes|baselines|fewshot|configs|tests|docs)/[\w/.]+)`", text)]
    assert [str(path) for path in links + paths if not path.exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_modules_that_are_there(document: Path) -> None:
    """`package.module.name` is a module, or a name that stands in one."""
    named = re.findall(r"`((?:episodes|baselines|fewshot)(?:\.\w+)+)`", document.read_text(encoding="utf-8"))
    assert [name for name in named if not is_there(name)] == []


def is_there(name: str) -> bool:
    path, last = ROOT.joinpath(*name.split(".")), name.rpartition(".")[2]
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module = path.parent / "__init__.py" if path.parent.is_dir() else path.parent.with_suffix(".py")
    return module.is_file() and re.search(rf"\b{last}\b", module.read_text(encoding="utf-8")) is not None
