import math
from pathlib import Path

import numpy as np
import pytest

from episodes.scoring.curves import RocCurve
from episodes.scoring.statistics import Interval
from fewshot.plots.curves import area_label, confusion_figure, roc_figure
from fewshot.plots.style import BLUE, SERIES, VERMILLION
from tests.fewshot.plots.pictures import coloured, pixels, size_in_inches

NAMES = ["normal", "benign", "malignant"]


def curve(power: float = 0.3) -> RocCurve:
    rates = np.linspace(0, 1, 50)
    return RocCurve(tuple(rates), tuple(rates**power), 1 / (1 + power), 0)


def test_every_class_has_a_colour_and_a_line_of_the_legend(tmp_path: Path) -> None:
    one = roc_figure(tmp_path / "one.png", {"benign": curve()})
    three = roc_figure(
        tmp_path / "three.png", {name: curve(power) for name, power in zip(NAMES, (0.1, 0.3, 0.6), strict=True)}
    )
    assert [coloured(one, colour).any() for colour in SERIES[:3]] == [True, False, False]
    assert all(coloured(three, colour).sum() > 500 for colour in SERIES[:3])
    assert size_in_inches(three)[1] > size_in_inches(one)[1]
    assert size_in_inches(three)[0] == size_in_inches(one)[0]


def test_a_better_curve_lies_higher_up(tmp_path: Path) -> None:
    heights = []
    for power in (0.1, 0.5, 2.0):
        found = coloured(roc_figure(tmp_path / "roc.png", {"benign": curve(power)}), BLUE)
        heights.append(np.nonzero(found)[0].mean())
    assert heights == sorted(heights)
    assert heights[0] < heights[2] - 100


def test_a_perfect_curve_is_seen_along_the_edges_of_square_axes(tmp_path: Path) -> None:
    perfect = RocCurve((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), 1.0, 0)
    found = coloured(roc_figure(tmp_path / "roc.png", {"benign": perfect}), BLUE)
    down, across = found.sum(axis=0).max(), found.sum(axis=1)[: found.shape[0] // 4].max()
    assert down > 500
    assert abs(down - across) <= 8


@pytest.mark.parametrize(
    ("area", "label"),
    [
        (0.9126, "cyst: AUC 0.913"),
        (Interval(0.9, 0.85, 0.9444), "cyst: AUC 0.900 [0.850, 0.944]"),
        (Interval(0.9, math.nan, math.nan), "cyst: AUC 0.900"),
        (Interval(0.9, 0.0, 0.0), "cyst: AUC 0.900 [0.000, 0.000]"),
        (Interval(math.nan, math.nan, math.nan), "cyst: AUC undefined"),
    ],
)
def test_the_legend_says_the_area(area: float | Interval, label: str) -> None:
    assert area_label("cyst", area) == label


def test_an_undefined_curve_is_named_and_not_drawn(tmp_path: Path) -> None:
    undefined = RocCurve((), (), math.nan, math.nan)
    path = roc_figure(tmp_path / "roc.png", {"benign": curve(), "malignant": undefined})
    found = coloured(path, VERMILLION)
    assert found.any()  # in the legend
    assert not found[: found.shape[0] * 3 // 4].any()
    with_nan = RocCurve((0.0, 1.0), (math.nan, math.nan), math.nan, math.nan)
    assert (
        roc_figure(tmp_path / "nan.png", {"benign": curve(), "malignant": with_nan}).read_bytes() == path.read_bytes()
    )


def test_the_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (roc_figure(tmp_path / name, {"benign": curve()}) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    assert roc_figure(tmp_path / "c.png", {"malignant": curve()}).read_bytes() != first.read_bytes()


def test_curves_are_refused_where_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ROC curve"):
        roc_figure(tmp_path / "roc.png", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_confusion_matrix_is_dark_where_its_rows_agree(tmp_path: Path, count: int) -> None:
    names = [f"class {place}" for place in range(count)]
    shuffled = np.roll(np.eye(count, dtype=np.int64) * 20, 1, axis=1)
    dark = []
    for matrix in (np.eye(count, dtype=np.int64) * 20, shuffled):
        colours = pixels(confusion_figure(tmp_path / "confusion.png", matrix, names))
        dark.append((colours[..., 2] - colours[..., 0]) > 100)  # deep blue
    rows, columns = np.nonzero(dark[0] | dark[1])
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    for found, wanted in zip(dark, (np.eye(count), np.roll(np.eye(count), 1, axis=1)), strict=True):
        tall, wide = (side // count * count for side in found[box].shape)
        cells = found[box][:tall, :wide].reshape(count, tall // count, count, wide // count).mean(axis=(1, 3))
        assert (cells > 0.5).tolist() == (wanted > 0).tolist()


def test_text_on_dark_cells_is_white_and_on_light_ones_black(tmp_path: Path) -> None:
    """One class alone fills the picture; a row without images has a light cell."""
    for count, wanted, other in ((88, 255, 0), (0, 0, 255)):
        colours = pixels(confusion_figure(tmp_path / "confusion.png", np.array([[count]]), ["x"]))
        height, width = colours.shape[:2]
        cell = colours[height // 5 : height // 2, width // 2 : width * 9 // 10]
        assert (cell == wanted).all(axis=2).any()
        assert not (cell == other).all(axis=2).any()


def test_counts_change_the_picture_even_where_shares_do_not(tmp_path: Path) -> None:
    matrix = np.array([[30, 10], [5, 15]])
    first, again, other = (
        confusion_figure(tmp_path / f"{place}.png", counts, NAMES[:2]).read_bytes()
        for place, counts in enumerate((matrix, matrix, 2 * matrix))
    )
    assert first == again != other


def test_long_names_of_classes_keep_apart(tmp_path: Path) -> None:
    names = ["suspicious abnormality", "AnUnbrokenNameOfManyLetters"]
    path = confusion_figure(tmp_path / "confusion.png", np.array([[12_345_678, 1], [0, 0]]), names)
    left_edge = pixels(path)[:, :3]
    assert (left_edge == 255).all()


@pytest.mark.parametrize(("shape", "names"), [((0, 0), []), ((2, 3), NAMES), ((3, 3), NAMES[:2])])
def test_a_matrix_needs_a_row_and_a_column_for_every_class(
    tmp_path: Path, shape: tuple[int, int], names: list[str]
) -> None:
    with pytest.raises(ValueError, match=f"of {len(names)} classes"):
        confusion_figure(tmp_path / "confusion.png", np.zeros(shape, np.int64), names)
