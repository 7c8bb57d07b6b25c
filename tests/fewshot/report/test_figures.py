import base64
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from episodes.images.regions import outline
from episodes.scoring.statistics import Interval
from fewshot.plots.style import SERIES, VARIABLES, Drawing, MethodStyle, method_styles
from fewshot.report.collect import content_of
from fewshot.report.content import TargetContent, shown_rows
from fewshot.report.drawings import calibration, draw, file_names, shot_curve
from fewshot.report.forest_plots import difference, groups, patients
from fewshot.report.page import PageImages, data_uri
from fewshot.results.index import ResultsIndex
from fewshot.results.run_files import RunFiles
from fewshot.results.summary import MethodResult
from tests.fewshot.made_results import FLOOR, scored, table
from tests.fewshot.report.made_content import made_cases, made_content, made_target

KINDS = ("shot-curve", "difference", "patients", "sizes", "labels", "normals", "reliability", "controls")


@pytest.fixture(scope="module")
def target() -> TargetContent:
    return made_target("bus_uclm")


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return draw(made_content(["bus_uclm"]))


def styles_of(rows: Iterable[MethodResult]) -> dict[str, MethodStyle]:
    return method_styles({row.method: row.role for row in rows})


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314


def test_every_figure_is_there_once_for_each_dataset(drawings: list[Drawing]) -> None:
    assert [drawing.kind for drawing in drawings] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_inside_the_page_takes_all_its_colours_from_it(drawings: list[Drawing], kind: str) -> None:
    drawing = next(one for one in drawings if one.kind == kind)
    inline = drawing.inline("f1")
    ET.fromstring(inline)  # noqa: S314
    assert "currentColor" in inline
    assert "var(--paper)" in inline
    assert not re.search(r"#[0-9a-fA-F]{6}", inline)
    assert "<style" not in inline
    assert all(name.startswith("f1-") for name in re.findall(r'id="([^"]+)"', inline))


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_as_a_file_stands_alone(drawings: list[Drawing], kind: str) -> None:
    drawing = next(one for one in drawings if one.kind == kind)
    svg = drawing.page.svg()
    assert "var(" not in svg
    assert "date" not in svg.lower()
    with Image.open(io.BytesIO(drawing.page.png())) as image:
        assert image.width == pytest.approx(4.6 * 150, abs=1)
        corner = image.convert("RGB").getpixel((0, 0))
        assert corner == (255, 255, 254)


def test_drawing_again_and_with_other_settings_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    content = made_content(["bus_uclm"])
    first = draw(content)[0]
    for name, value in (("font.size", 30.0), ("svg.fonttype", "path"), ("savefig.dpi", 40)):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    second = draw(content)[0]
    assert (second.page.svg(), second.page.png()) == (first.page.svg(), first.page.png())


def test_the_shot_curve_shows_every_row_at_its_dice(target: TargetContent) -> None:
    styles = styles_of(target.rows)
    axes = shot_curve(target, styles).page.figure.axes[0]
    points = {
        (round(float(x)), round(float(y), 6))
        for line in axes.lines
        if line.get_linestyle() == "None"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    far = far_below(target)
    shown = [row for row in target.rows if row.role != "control" and row.method not in far]
    assert len(far) < len({row.method for row in shown})
    assert points == {((0, 1, 5).index(row.shot), round(row.dice.estimate, 6)) for row in shown}


def far_below(target: TargetContent) -> set[str]:
    """The methods that are named beneath the curves: `empty`, and one that never comes near the best."""
    best = max(row.dice.estimate for row in target.rows if row.role == "method")
    rows = [row for row in target.rows if row.role != "control"]
    near = {row.method for row in rows if row.dice.estimate >= best - 0.3}
    return {row.method for row in rows} - near


def test_what_is_far_below_the_best_is_named_and_stretches_nothing(target: TargetContent) -> None:
    figure = shot_curve(target, styles_of(target.rows)).page.figure
    low, high = figure.axes[0].get_ylim()
    assert 0.1 < low < high < 1
    (said,) = [text.get_text() for text in figure.axes[0].texts]
    assert said.startswith("below: empty 0.00")
    assert "empty" in far_below(target)
    named = {entry.rsplit(" ", 1)[0] for entry in " ".join(said.removeprefix("below: ").split()).split(", ")}
    assert named == far_below(target)


@pytest.mark.parametrize("dice", [0.3, 0.7, 0.95])
def test_a_floor_above_the_methods_is_within_the_axes(dice: float) -> None:
    rows = [scored(f"x{p}", 0.2, "U", 0, -1) for p in range(6)]
    rows += [scored(f"x{p}", dice, "ellipse", 0, -1, **FLOOR) for p in range(6)]
    (target,) = content_of(ResultsIndex(table(*rows)), "run", RunFiles()).targets
    axes = shot_curve(target, styles_of(target.rows)).page.figure.axes[0]
    low, high = axes.get_ylim()
    assert low < 0.2 < dice < high


def test_differences_say_their_numbers_and_are_filled_where_they_are_clear(target: TargetContent) -> None:
    drawing = difference(target, styles_of(target.rows))
    said = texts(drawing.page.svg())
    for one in target.comparisons:
        assert any(text.startswith(f"{one.difference.interval.estimate:+.3f}".replace("-", "\u2212")) for text in said)
    marks = [line for line in drawing.page.figure.axes[0].lines if line.get_linestyle() == "None"]
    estimates = [one.difference.interval.estimate for one in target.comparisons]
    hollow = {float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() not in (*SERIES, "#5b6472")}
    assert hollow == {estimates[place] for place, one in enumerate(target.comparisons) if one.corrected_p >= 0.05}
    assert hollow


def test_a_row_farther_off_than_the_axis_reaches_is_an_arrow(target: TargetContent) -> None:
    axes = difference(target, styles_of(target.rows)).page.figure.axes[0]
    low, _ = axes.get_xlim()
    arrows = [line for line in axes.lines if line.get_marker() == "<"]
    assert len(arrows) == sum(one.difference.interval.estimate < low for one in target.comparisons) > 0


def test_groups_are_headed_by_the_sizes_they_hold(target: TargetContent) -> None:
    drawing = groups(target, styles_of(target.rows), "sizes")
    assert drawing is not None
    said = texts(drawing.page.svg())
    assert "small: below 2.1 % of the image" in said
    assert "medium: 2.1 to 5.8 % of the image" in said
    assert f"{target.sizes[0].dice.estimate:.3f}" in said


def test_what_has_no_numbers_is_not_drawn(target: TargetContent) -> None:
    bare = replace(target, sizes=[], labels=[], controls=[], reliability={}, patients={}, comparisons=[])
    content = replace(made_content(["bus_uclm"]), targets=[bare])
    assert [drawing.kind for drawing in draw(content)] == ["shot-curve", "normals"]


def test_unknown_bounds_leave_the_mark_alone(target: TargetContent) -> None:
    rows = [replace(row, dice=Interval(row.dice.estimate, float("nan"), float("nan"))) for row in target.rows]
    assert "NaN" not in shot_curve(replace(target, rows=rows), styles_of(rows)).page.svg()


def test_methods_keep_their_look_whatever_their_order_and_no_two_are_alike(target: TargetContent) -> None:
    styles = styles_of(target.rows)
    assert styles == styles_of(list(reversed(target.rows)))
    many = [replace(row, method=f"{row.method} {n}") for row in target.rows for n in range(6)]
    own = {row.method for row in many if row.role == "method"}
    pairs = [(style.colour, style.marker) for method, style in styles_of(many).items() if method in own]
    assert len(set(pairs)) == len(pairs) > 30


def test_file_names_are_plain_and_differ() -> None:
    drawings = [Drawing("sizes", name, "", None) for name in ("a/b", "a b", "乳腺", "..")]  # type: ignore[arg-type]
    assert file_names(drawings) == ["sizes-a-b", "sizes-a-b-2", "sizes-dataset", "sizes-dataset-2"]


def test_series_colours_are_those_of_the_page() -> None:
    css = (Path(__file__).parents[3] / "fewshot/report/templates/report.css").read_text(encoding="utf-8")
    for variable in VARIABLES.values():
        name = variable.removeprefix("var(").removesuffix(")")
        assert variable == "currentColor" or f"{name}: #" in css


def test_an_outline_runs_around_the_mask_and_is_closed() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    path = outline(mask)
    points = np.array([[float(x) for x in point.split()] for point in re.findall(r"[\d.]+ [\d.]+", path)])
    assert path.startswith("M")
    assert path.endswith("Z")
    assert points.min(axis=0).tolist() == [3, 2]
    assert points.max(axis=0).tolist() == [9, 5]
    assert outline(np.zeros((4, 4), bool)) == ""
    both = mask.copy()
    both[8:, :2] = True
    assert outline(both).count("M") == 2


def test_an_image_is_held_once_however_often_it_is_shown() -> None:
    pictures = PageImages()
    shown = [pictures.case(case) for case in made_cases("busi")]
    places = [support.place for one in shown for support in one.supports]
    assert len(set(places)) == 5 < len(places)
    assert len({place for place, *_ in pictures.sources}) == len(pictures.sources) == 10
    assert shown[0].query.place == shown[0].result.place
    assert "Dice 0.64" in shown[0].caption
    assert shown[-1].query.truth == ""
    assert shown[-1].result.prediction


def test_pictures_are_small_and_look_like_the_image() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8), (200, 1))
    uri = data_uri(image, 128)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
        assert picture.format == "PNG"
        assert picture.size == (128, 100)
    with Image.open(io.BytesIO(base64.b64decode(data_uri(image).split(",")[1]))) as picture:
        shown = np.asarray(picture.convert("L")).astype(int)
    assert np.abs(shown - image).max() <= 3


def test_pyplot_is_never_imported() -> None:
    program = "import sys, fewshot.report.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603


def test_patients_and_calibration_are_of_the_best_rows_at_every_number_of_shots(target: TargetContent) -> None:
    wanted = {(row.method, row.shot) for row in shown_rows(target.rows)}
    assert {shot for _, shot in wanted} == {row.shot for row in target.rows}
    assert all(row.role == "method" for row in target.rows if (row.method, row.shot) in wanted)
    for figure in (patients, calibration):
        drawing = figure(target, styles_of(target.rows))
        assert drawing is not None
        said = " ".join(texts(drawing.page.svg()))
        assert all(method[:8] in said for method, _ in wanted)  # a long name is shortened in the middle
        assert "centre" not in said
