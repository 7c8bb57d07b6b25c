"""The layers hold, commands start without heavy libraries, and the house is in order; what breaks them is found."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import house

# Each takes from a tenth of a second to seconds to import, which `fewshot --help` need not wait for.
HEAVY = {"albumentations", "matplotlib", "scipy", "sklearn", "timm", "torch", "torchvision", "wandb"}
SIZES = {"production files", "production lines", "lines a file", "files with one importer"}


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = f"import sys, fewshot.cli; print(sorted({HEAVY!r} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ended.stdout.strip() == "[]"


def test_a_prediction_starts_without_what_it_does_not_need() -> None:
    """Nor is a usual network built by timm or within torch's compiler, which would import most of these."""
    unneeded = {"albumentations", "matplotlib", "pyarrow", "sklearn", "timm", "torch._dynamo", "torchvision", "wandb"}
    code = (
        "import sys, fewshot.predict.run; from fewshot.config.training import EncoderConfig, ModelConfig;"
        " from fewshot.networks import build_network;"
        " unet = ModelConfig(network='unet', levels=(0, 1), options={'decoder_channels': (8,)});"
        " build_network(EncoderConfig(name='resnet18'), unet);"
        f" print(sorted({unneeded!r} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ended.stdout.strip() == "[]"


def test_an_arrow_that_runs_back_is_found(tmp_path: Path) -> None:
    for name, source in {
        "fewshot.cli": "",
        "fewshot.panet": "import fewshot.cli",
        "episodes": "",
        "baselines": "",
    }.items():
        folder = tmp_path.joinpath(*name.split("."))
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(source)
    (tmp_path / "fewshot" / "__init__.py").write_text("")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["episodes", "baselines", "fewshot"]\n'
        '[[tool.importlinter.contracts]]\nname = "layers"\ntype = "layers"\n'
        'containers = ["fewshot"]\nlayers = ["cli", "panet"]\n'
    )
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 1
    assert "fewshot.panet is not allowed to import fewshot.cli" in ended.stdout


def test_the_house_is_in_order() -> None:
    assert [one for one in house.figures() if one.name not in SIZES and not one.holds] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f():\n    """Whether it is."""', ["a.py:1"]),
        ('class C:\n    """What it is."""', ["a.py:1"]),
        ('"""How it is."""', ["a.py:1"]),
        ('def f():\n    """Tell whether it is."""', []),
    ],
)
def test_docstrings_that_ask_are_found(source: str, found: list[str]) -> None:
    assert list(house.riddles({"a.py": ast.parse(source)})) == found


def test_names_with_two_meanings_and_callers_are_found() -> None:
    trees = {"a.py": ast.parse("class C: ..."), "b.py": ast.parse("class C: ...\nself.network.segment(1)")}
    assert house.definitions(trees)["C"] == ["a.py", "b.py"]
    assert house.callers(trees, "segment") == ["b.py"]
    assert house.callers(trees, "segment", without=("b",)) == []
