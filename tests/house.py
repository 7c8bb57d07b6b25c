"""The house in figures: files, layers, twins and docstrings, each with what is wanted of it.

Run as `make house`, or `python -m tests.house`. Sources are read, never run, so it takes seconds. The exit status says
whether every wish holds.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
PACKAGES = ("episodes", "baselines", "fewshot")
_RIDDLE = re.compile(r"(What|How|Whether|Where|Which)\b")


@dataclass(frozen=True)
class Figure:
    """One figure of the house.

    Attributes:
        name: what is counted.
        value: how many there are.
        least: the fewest wanted.
        most: the most wanted; None where the figure is for information.
        where: what was counted, where that is worth showing.
    """

    name: str
    value: float
    most: float | None = None
    least: float = 0
    where: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the wish holds."""
        return self.most is None or self.least <= self.value <= self.most


def sources(root: Path = ROOT) -> dict[str, str]:
    """Read every production file, by its path relative to the root."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def importers(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """Find who imports each module, packages' own files (`__init__.py`) left out."""
    return {
        module: set(graph.find_modules_that_directly_import(module))
        for module in graph.modules
        if not graph.find_children(module)
    }


def circles(graph: grimp.ImportGraph, package: str = "fewshot") -> set[str]:
    """Name the folders and files right below a package that import each other in a circle."""
    parts = set(graph.find_children(package))
    arrows = {
        one: {
            other
            for other in parts - {one}
            if graph.direct_import_exists(importer=one, imported=other, as_packages=True)
        }
        for one in parts
    }
    return {one for one in parts if one in _reached(arrows, one)}


def _reached(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for other in arrows[ahead.pop()] - seen:
            seen.add(other)
            ahead.append(other)
    return seen


def definitions(trees: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    """Find the files that define each class name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path)
    return found


def riddles(trees: Mapping[str, ast.Module]) -> Iterator[str]:
    """Find functions, classes and modules whose docstring begins with a question word."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            described = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
            if described and _RIDDLE.match(ast.get_docstring(node) or ""):
                yield f"{path}:{getattr(node, 'lineno', 1)}"


def callers(trees: Mapping[str, ast.Module], name: str, *, without: tuple[str, ...] = ()) -> list[str]:
    """Find the files that call a function, method or class by its name."""
    return [
        path
        for path, tree in trees.items()
        if not path.startswith(without)
        and any(
            isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name for node in ast.walk(tree)
        )
    ]


def figures(root: Path = ROOT) -> list[Figure]:
    """Measure the house."""
    texts = sources(root)
    trees = {path: ast.parse(text) for path, text in texts.items()}
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    lines = sum(text.count("\n") for text in texts.values())
    single = sorted(module for module, users in importers(graph).items() if len(users) == 1)
    twins = {name: paths for name, paths in definitions(trees).items() if len(paths) > 1}
    knot = sorted(circles(graph))
    unclear = sorted(riddles(trees))
    loops = callers(trees, "segment", without=("fewshot/methods", "fewshot/panet", "fewshot/export.py"))
    reserving = [path for path, text in texts.items() if "posix_fallocate" in text]
    partial = [path for path, text in texts.items() if '.partial"' in text]
    pooling = callers(trees, "masked_average_pooling")
    pooled = callers(trees, "pooled_iou")
    return [
        Figure("production files", len(texts), 210),
        Figure("production lines", lines, 32_500),
        Figure("lines a file", round(lines / len(texts)), 350, 145),
        Figure("files with one importer", len(single), 40),
        Figure("folders of fewshot/ in an import circle", len(knot), 0, where=tuple(knot)),
        Figure("class names with several meanings", len(twins), 0, where=tuple(map(str, twins.items()))),
        Figure("docstrings that begin with a question word", len(unclear), 0, where=tuple(unclear)),
        Figure("files that ask a method for masks", len(loops), 1, 1, where=tuple(loops)),
        Figure("files that build a support set", *_support_builders(trees)),
        Figure("files that reserve space on disk", len(reserving), 1, 1, where=tuple(reserving)),
        Figure("files that know of .partial", len(partial), 1, 1, where=tuple(partial)),
        Figure("files that call masked_average_pooling", len(pooling), 99, 1, where=tuple(pooling)),
        Figure("files that call pooled_iou", len(pooled), 99, 1, where=tuple(pooled)),
        *(
            Figure(f"files that `fewshot {name}` imports", _closure(graph, module), most)
            for name, (module, most) in _COMMANDS.items()
        ),
    ]


# The modules that compute what a command gives, and how many files they may import, directly and indirectly.
_COMMANDS = {"benchmark": ("fewshot.benchmark.run", 85), "predict": ("fewshot.predict.run", 65)}


def _support_builders(trees: Mapping[str, ast.Module]) -> tuple[int, float, float, tuple[str, ...]]:
    """Count who makes a `Support` of pixels: records of a store in one place, a user's pictures in another."""
    found = callers(trees, "Support")
    return len(found), 2, 1, tuple(found)


def _closure(graph: grimp.ImportGraph, module: str) -> int:
    return len(graph.find_upstream_modules(module)) + 1


def main() -> int:
    """Print every figure with what is wanted, and where a wish does not hold, why."""
    table = Table("figure", "found", "wanted", "", box=None, pad_edge=False)
    measured = figures()
    for one in measured:
        table.add_row(one.name, f"{one.value:,g}", _wanted(one), "" if one.holds else "NO")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    for one in measured:
        if not one.holds and one.where:
            console.print(f"\n{one.name}:", *one.where, sep="\n  ", markup=False)
    return 0 if all(one.holds for one in measured) else 1


def _wanted(one: Figure) -> str:
    if one.most is None:
        return ""
    return f"{one.least:g} to {one.most:,g}" if one.least else f"at most {one.most:,g}"


if __name__ == "__main__":
    sys.exit(main())
