from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.phantoms.population import PhantomSpec, generate
from fewshot.plots.images import PANEL, PANEL_GAP, PANEL_MARGIN, PREDICTION, TRUTH, Case, cases_figure
from tests.fewshot.plots.pictures import coloured, pixels, size_in_inches

SIZE = 46  # 7.5 pixels of the figure for each of the image
COLUMN = (PANEL + PANEL_GAP) * 150


def box(first: int, last: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[first:last, first:last] = True
    return mask


CASE = Case("best 0.94", "a.png", np.full((SIZE, SIZE), 90, np.uint8), box(10, 20), box(12, 30))
PROBABILITY = np.where(CASE.prediction, 0.9, 0.0)


def differing_panels(one: Path, other: Path) -> list[int]:
    """The columns of panels in which two figures of the same size differ."""
    columns = np.nonzero((pixels(one) != pixels(other)).any(axis=(0, 2)))[0]
    return sorted({int((column - PANEL_MARGIN * 150) // COLUMN) for column in columns})


def test_outlines_run_along_the_borders_of_their_masks(tmp_path: Path) -> None:
    with_both = cases_figure(tmp_path / "both.png", [CASE])
    without = cases_figure(tmp_path / "none.png", [replace(CASE, truth=box(0, 0), prediction=box(0, 0))])
    changed = (pixels(with_both) != pixels(without)).any(axis=2)
    top = 0.62 * 150  # below the headings and the row's title
    for colour, panel, first, last in ((TRUTH, 1, 10, 20), (TRUTH, 2, 10, 20), (PREDICTION, 2, 12, 30)):
        left = PANEL_MARGIN * 150 + panel * COLUMN
        within = coloured(with_both, colour["color"])
        within[: int(top)] = within[int(top + PANEL * 150) :] = False
        within[:, : int(left)] = within[:, int(left + PANEL * 150) :] = False
        rows, columns = np.nonzero(within & changed)
        ends = [rows.min() - top, rows.max() - top, columns.min() - left, columns.max() - left]
        assert np.array(ends) / 7.5 == pytest.approx([first, last, first, last], abs=0.5)
    assert not coloured(without, TRUTH["color"])[: int(top + PANEL * 150)].any()


def test_a_lesion_at_the_image_edge_has_a_whole_outline(tmp_path: Path) -> None:
    path = cases_figure(tmp_path / "whole.png", [replace(CASE, truth=box(0, SIZE), prediction=box(0, 0))])
    found = coloured(path, TRUTH["color"])[int(0.62 * 150) + 20 : int((0.62 + PANEL) * 150) - 20]
    edges = np.nonzero(found.all(axis=0))[0]
    panels = {int((column - PANEL_MARGIN * 150 + 3) // COLUMN) for column in edges}
    assert panels == {1, 2}
    assert len(edges) >= 4


def test_each_array_changes_its_own_panels_alone(tmp_path: Path) -> None:
    whole = replace(CASE, probability=PROBABILITY, uncertainty=PROBABILITY)
    first = cases_figure(tmp_path / "whole.png", [whole])
    for changed, panels in (
        (replace(whole, image=np.full((SIZE, SIZE), 120, np.uint8)), [0, 1, 2]),
        (replace(whole, truth=box(11, 20)), [1, 2]),
        (replace(whole, prediction=box(13, 30)), [2, 3]),
        (replace(whole, probability=PROBABILITY / 2), [2]),
        (replace(whole, uncertainty=PROBABILITY * np.eye(SIZE)), [3]),
    ):
        assert differing_panels(first, cases_figure(tmp_path / "changed.png", [changed])) == panels


def test_rows_are_as_high_as_their_images(tmp_path: Path) -> None:
    flat = Case("worst 0.00", "b.png", *(array[: SIZE // 2] for array in (CASE.image, CASE.truth, CASE.prediction)))
    one, two, three = (
        size_in_inches(cases_figure(tmp_path / "cases.png", rows))
        for rows in ([CASE], [CASE, CASE], [CASE, CASE, flat])
    )
    assert two[1] - one[1] == pytest.approx(PANEL + 0.32, abs=0.01)
    assert three[1] - two[1] == pytest.approx(PANEL / 2 + 0.32, abs=0.01)
    assert one[0] == two[0] == three[0]


def test_uncertainty_is_a_column_once_a_case_has_it(tmp_path: Path) -> None:
    without = size_in_inches(cases_figure(tmp_path / "without.png", [CASE, CASE]))
    some = size_in_inches(cases_figure(tmp_path / "some.png", [CASE, replace(CASE, uncertainty=PROBABILITY)]))
    assert some[0] - without[0] == pytest.approx(PANEL + PANEL_GAP, abs=0.01)


def test_uncertainty_has_one_scale_for_all_rows(tmp_path: Path) -> None:
    low = replace(CASE, uncertainty=np.full((SIZE, SIZE), 0.2))
    alone = pixels(cases_figure(tmp_path / "alone.png", [low]))
    beside = pixels(cases_figure(tmp_path / "beside.png", [low, replace(low, uncertainty=low.uncertainty * 4)]))
    spot = (int((0.62 + 0.1) * 150), int(PANEL_MARGIN * 150 + 3.05 * COLUMN))
    assert alone[spot].sum() > beside[spot].sum() + 200
    nothing = replace(CASE, uncertainty=np.zeros((SIZE, SIZE)))
    assert pixels(cases_figure(tmp_path / "zero.png", [nothing]))[spot].sum() < 30


def test_phantoms_give_the_same_bytes_every_time(tmp_path: Path) -> None:
    rows = [
        Case("typical 0.80", one.name, one.image, one.label_map > 0, np.roll(one.label_map > 0, 5, axis=1))
        for one in generate(PhantomSpec("linear", n_images=2, size=64))
    ]
    first, second = (cases_figure(tmp_path / name, rows).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_cases_have_to_fit_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no case"):
        cases_figure(tmp_path / "cases.png", [])
    with pytest.raises(ValueError, match=r"a\.png: probability is \(3, 3\), the image \(46, 46\)"):
        replace(CASE, probability=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"a\.png: the image has the shape"):
        replace(CASE, image=np.zeros((SIZE, SIZE, 3), np.uint8))
    assert not list(tmp_path.iterdir())
