"""Imports go one way: fewshot -> baselines -> episodes (data types only), and fewshot -> episodes.

Sources are read, not run, so that imports inside functions count as well.
"""

import ast
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("episodes", "baselines", "fewshot")

# What each package may import of the project besides itself: a name allows all below it.
ALLOWED = {
    "episodes": (),
    "baselines": (
        "episodes.sampling.episode",
        "episodes.errors",
        "episodes.augment.random_scanner",
        "episodes.records",
        "episodes.storage.store",
        "episodes.augment.transforms",
    ),
    "fewshot": ("episodes", "baselines"),
}

# Each takes from a tenth of a second to seconds to import, which `fewshot --help` need not wait for.
HEAVY = {"albumentations", "matplotlib", "timm", "torch", "torchvision", "wandb"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
CLI = sorted(name for name in MODULES if name.startswith("fewshot.cli"))


def names(node: ast.AST, package: str) -> list[str]:
    """The dotted names that an import statement asks for; `package` is what a leading dot stands for."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        start = [*above, *([node.module] if node.module else [])]
        return [".".join([*start, alias.name]) for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
        "import_module",
        "__import__",
    ):
        return [str(node.args[0].value)] if node.args and isinstance(node.args[0], ast.Constant) else []
    return []


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node that runs when its module is imported: not in functions, not for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        yield child
        yield from run_at_import(child)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def forbidden(source: str, package: str) -> list[str]:
    """The imports in a source of `package` that run against an arrow."""
    found = [name for node in ast.walk(ast.parse(source)) for name in names(node, package)]
    ours = [name for name in found if any(within(name, other) for other in (*PACKAGES, "tests"))]
    may = (*ALLOWED[package.split(".")[0]], package.split(".")[0])
    return [name for name in ours if not any(within(name, allowed) for allowed in may)]


def package_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def heavy_imports(name: str, seen: set[str]) -> Iterator[str]:
    """The heavy libraries that importing `name` imports, through all modules of the project not yet seen."""
    for module in accumulate(name.split("."), "{}.{}".format):
        if module not in MODULES or module in seen:
            continue
        seen.add(module)
        for node in run_at_import(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
            for imported in names(node, package_of(module)):
                if imported.split(".")[0] in HEAVY:
                    yield f"{module} imports {imported}"
                yield from heavy_imports(imported, seen)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert forbidden(MODULES[module].read_text(encoding="utf-8"), package_of(module)) == []


def test_every_package_is_read() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
    assert CLI, "there is no fewshot.cli"


@pytest.mark.parametrize("module", CLI)
def test_the_command_line_starts_without_heavy_libraries(module: str) -> None:
    assert list(heavy_imports(module, set())) == []


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("episodes", "import fewshot.panet", ["fewshot.panet"]),
        ("episodes", "def f():\n    from baselines.unet import UNet", ["baselines.unet.UNet"]),
        ("episodes", "if TYPE_CHECKING:\n    import baselines", ["baselines"]),
        ("episodes.datasets", "from ...fewshot import panet", ["fewshot.panet"]),
        ("episodes.datasets", "from ..store import Store\nfrom . import busi\nimport fewshotlike", []),
        ("episodes", "importlib.import_module('fewshot.cli')", ["fewshot.cli"]),
        (
            "baselines",
            "from episodes.sampling.sampler import EpisodeSampler",
            ["episodes.sampling.sampler.EpisodeSampler"],
        ),
        ("baselines", "from episodes import store, metrics", ["episodes.scoring.mask_scores"]),
        ("baselines", "from episodes.storage.store import Store\nimport baselines.unet\nimport torch", []),
        ("baselines", "import fewshot", ["fewshot"]),
        ("fewshot", "from episodes import sampler\nfrom baselines.unet import UNet", []),
        ("fewshot", "import tests.conftest", ["tests.conftest"]),
    ],
)
def test_arrows_that_run_back_are_found(package: str, source: str, found: list[str]) -> None:
    assert forbidden(source, package) == found


def test_only_imports_that_run_at_once_count_for_the_command_line() -> None:
    source = """
import torch
class Command:
    import timm
    def run(self):
        import wandb
if TYPE_CHECKING:
    import matplotlib
try:
    from albumentations import Compose
except ImportError:
    pass
"""
    found = [name for node in run_at_import(ast.parse(source)) for name in names(node, "fewshot")]
    assert found == ["torch", "timm", "albumentations.Compose"]
