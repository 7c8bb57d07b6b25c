"""Draw `docs/layers.png` from the contract in pyproject.toml: `python docs/draw_layers.py`.

Every box is a package or module, with its size and the first sentence of its docstring. Imports go down and, within a
row, to the right: never up. All of it is read from the tree, so that a picture drawn again after a change is right.
"""

import ast
import tomllib
from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
COLOURS = {"fewshot": "#dbe9f6", "baselines": "#fbe6cf", "episodes": "#dff0df"}
ROW, GAP, WIDTH = 1.0, 0.14, 20.0
# Layers of the contract that stand in one row of the picture, from left to right; there, imports go right.
TOGETHER = {"demo": 2, "inference": 2, "plots": 3, "networks": 5, "sampling": 4, "curation": 3, "images": 5}


def layers(package: str) -> list[tuple[str, ...]]:
    """Return the rows of a package, from the top, as its contract has them."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = tree["tool"]["importlinter"]["contracts"]
    contract = next(one for one in contracts if one.get("containers") == [package])
    found = [[part.strip() for part in row.split("|")] for row in contract["layers"]]
    rows: list[tuple[str, ...]] = []
    while found:
        count = TOGETHER.get(found[0][0], 1)
        rows.append(tuple(name for row in found[:count] for name in row))
        found = found[count:]
    return rows


def describe(dotted: str) -> tuple[str, int, int]:
    """Return the first sentence of a package's or module's docstring, its files and its lines."""
    path = ROOT.joinpath(*dotted.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    face = path / "__init__.py" if path.is_dir() else files[0]
    said = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or ""
    lines = sum(file.read_text(encoding="utf-8").count("\n") for file in files)
    sentence = said.split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")
    return sentence.replace("`", ""), len(files), lines


def draw_row(axes: Axes, top: float, package: str, names: tuple[str, ...]) -> None:
    """Draw the boxes of one layer."""
    width = (WIDTH - GAP * (len(names) - 1)) / len(names)
    for place, name in enumerate(names):
        left = place * (width + GAP)
        said, files, lines = describe(f"{package}.{name}" if name else package)
        box = FancyBboxPatch(
            (left, top - ROW + GAP),
            width,
            ROW - GAP,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=COLOURS[package],
            edgecolor="#52606d",
            linewidth=0.8,
        )
        axes.add_patch(box)
        middle, narrow = left + width / 2, width < 4.5
        size = f"{lines:,} lines" if files == 1 else f"{files} files, {lines:,} lines"
        axes.text(middle, top - 0.16, name or package, ha="center", va="center", fontsize=10, weight="bold")
        shown = fill(said, int(width * (8.6 if narrow else 7.6)), max_lines=3 if narrow else 2, placeholder=" ...")
        axes.text(middle, top - 0.44, shown, ha="center", va="center", fontsize=6.4 if narrow else 7.4, linespacing=1.1)
        axes.text(middle, top - 0.76, size, ha="center", va="center", fontsize=6.6, color="#52606d")


def main() -> None:
    """Draw the picture."""
    rows = [(package, row) for package in ("fewshot", "episodes") for row in layers(package)]
    rows.insert(len(layers("fewshot")), ("baselines", ("",)))
    height = len(rows) * ROW
    figure, axes = plt.subplots(figsize=(13, height * 0.98), dpi=110)
    for place, (package, names) in enumerate(rows):
        draw_row(axes, height - place * ROW, package, names)
    axes.annotate(
        "",
        xy=(-0.45, 0.2),
        xytext=(-0.45, height - 0.1),
        arrowprops={"arrowstyle": "-|>", "color": "#52606d", "linewidth": 1.4},
    )
    axes.text(-0.8, height / 2, "imports go down", rotation=90, ha="center", va="center", color="#52606d", fontsize=10)
    axes.set_xlim(-1.1, WIDTH + 0.1)
    axes.set_ylim(0, height + 0.1)
    axes.axis("off")
    figure.savefig(ROOT / "docs" / "layers.png", bbox_inches="tight", facecolor="white")


if __name__ == "__main__":
    main()
