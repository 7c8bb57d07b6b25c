from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from episodes.images.regions import contours
from fewshot.plots.images import (
    CAPTION,
    COLUMNS,
    GAP,
    HEADER,
    LABEL_LINES,
    MARGIN,
    TILE,
    TITLE,
    WIDTH,
    Tile,
    TileGroup,
    contact_sheet,
)
from tests.fewshot.plots.pictures import coloured, pixels, size_in_inches

SIZE = 48  # 5 pixels of the figure for each of the image
TOP, LEFT = round((TITLE + HEADER) * 150), round(MARGIN * 150)


def box(value: int, first: int, last: int) -> NDArray[np.uint8]:
    label_map = np.zeros((SIZE, SIZE), np.uint8)
    label_map[first:last, first:last] = value
    return label_map


TILE_OF_BENIGN = Tile("a", np.full((SIZE, SIZE), 70, np.uint8), box(1, 10, 30), 1.0)


def sheet(path: Path, *tiles: Tile) -> Path:
    return contact_sheet(path, [TileGroup("benign", tiles, len(tiles))], title="made")


def ends(found: NDArray[np.bool_]) -> list[float]:
    """First and last row and column of what is found below the headings, in pixels of the image."""
    rows, columns = np.nonzero(found[TOP:])
    return [end / (TILE * 150 / SIZE) for end in (rows.min(), rows.max(), columns.min() - LEFT, columns.max() - LEFT)]


@pytest.mark.parametrize(("value", "label"), [(1, "benign"), (2, "malignant"), (3, "unknown")])
def test_each_class_is_outlined_in_its_colour_along_its_border(tmp_path: Path, value: int, label: str) -> None:
    path = sheet(tmp_path / "sheet.png", replace(TILE_OF_BENIGN, label_map=box(value, 10, 30)))
    assert ends(coloured(path, LABEL_LINES[label]["color"])) == pytest.approx([10, 30, 10, 30], abs=0.6)  # type: ignore[index]
    for other, how in LABEL_LINES.items():
        if other != label:
            assert not coloured(path, how["color"])[TOP:].any()


def test_two_classes_in_one_image_have_both_colours(tmp_path: Path) -> None:
    path = sheet(tmp_path / "sheet.png", replace(TILE_OF_BENIGN, label_map=box(1, 5, 15) + box(2, 30, 44)))
    assert ends(coloured(path, LABEL_LINES["benign"]["color"])) == pytest.approx([5, 15, 5, 15], abs=0.6)
    assert ends(coloured(path, LABEL_LINES["malignant"]["color"])) == pytest.approx([30, 44, 30, 44], abs=0.6)


def test_an_outline_is_thin(tmp_path: Path) -> None:
    found = coloured(sheet(tmp_path / "sheet.png", TILE_OF_BENIGN), LABEL_LINES["benign"]["color"])[TOP:]
    middle = round(20 * TILE * 150 / SIZE)
    assert 2 <= found[middle, : LEFT + 240].sum() <= 6  # crossed twice


def test_a_normal_image_has_no_outline_and_the_key_names_only_what_is_drawn(tmp_path: Path) -> None:
    normal = replace(TILE_OF_BENIGN, label_map=box(0, 0, 0))
    path = contact_sheet(tmp_path / "normal.png", [TileGroup("normal", [normal], 1)], title="made")
    assert not any(coloured(path, how["color"]).any() for how in LABEL_LINES.values())
    both = contact_sheet(
        tmp_path / "both.png",
        [TileGroup("benign", [TILE_OF_BENIGN], 1), TileGroup("normal", [normal], 1)],
        title="made",
    )
    assert coloured(both, LABEL_LINES["benign"]["color"])[: round(TITLE * 150)].any()
    assert not coloured(both, LABEL_LINES["malignant"]["color"]).any()


@pytest.mark.parametrize(("aspect", "height", "width"), [(0.5, 0.5, 1), (1, 1, 1), (2, 1, 0.5), (0.75, 0.75, 1)])
def test_images_have_their_own_proportions(tmp_path: Path, aspect: float, height: float, width: float) -> None:
    path = sheet(tmp_path / "sheet.png", replace(TILE_OF_BENIGN, name="", aspect=aspect, label_map=box(0, 0, 0)))
    rows, columns = np.nonzero((np.abs(pixels(path)[TOP - 3 :] - 70) < 8).all(axis=2)[:, : LEFT + 260])
    assert (np.ptp(rows) / 150, np.ptp(columns) / 150) == pytest.approx((TILE * height, TILE * width), abs=0.02)
    middle = (columns.min() + columns.max()) / 2
    assert middle == pytest.approx(LEFT + TILE * 150 / 2, abs=2)


def test_a_row_more_makes_the_page_longer_and_not_wider(tmp_path: Path) -> None:
    sizes = [
        size_in_inches(sheet(tmp_path / "sheet.png", *[TILE_OF_BENIGN] * count)) for count in (1, COLUMNS, COLUMNS + 1)
    ]
    assert sizes[0] == sizes[1] == pytest.approx((WIDTH, TITLE + HEADER + TILE + CAPTION + GAP), abs=0.01)
    assert sizes[2] == pytest.approx((WIDTH, sizes[1][1] + TILE + CAPTION + GAP), abs=0.01)


def test_long_names_stay_below_their_own_image(tmp_path: Path) -> None:
    named = replace(TILE_OF_BENIGN, name="an endless name " * 20)
    nameless = replace(TILE_OF_BENIGN, name="")
    first = pixels(sheet(tmp_path / "named.png", nameless, named, nameless))
    second = pixels(sheet(tmp_path / "plain.png", nameless, nameless, nameless))
    rows, columns = np.nonzero((first != second).any(axis=2))
    left = (MARGIN + TILE + GAP) * 150
    assert (columns.min() >= left - 1, columns.max() <= left + TILE * 150 + 1) == (True, True)
    assert rows.min() >= TOP + TILE * 150
    contact_sheet(tmp_path / "title.png", [TileGroup("benign", [nameless], 1)], title="an endless title " * 50)
    title = pixels(tmp_path / "title.png")[: round(TITLE * 150)]
    key = pixels(tmp_path / "plain.png")[: round(TITLE * 150)]
    at_key = slice(round((WIDTH - MARGIN - 1.6) * 150), None)
    assert np.array_equal(title[:, at_key], key[:, at_key])


def test_outlines_of_several_parts_are_closed() -> None:
    lines = contours(box(1, 3, 9) + box(1, 20, 40) > 0)
    assert len(lines) == 2
    assert all(np.array_equal(line[0], line[-1]) for line in lines)
    found = sorted((line.min(), line.max()) for line in lines)
    np.testing.assert_allclose(found, [(3, 9), (20, 40)])


def test_a_lesion_over_the_whole_image_has_an_outline_too() -> None:
    (line,) = contours(np.ones((4, 8), bool))
    assert (line.min(axis=0).tolist(), line.max(axis=0).tolist()) == ([0, 0], [8, 4])
    assert contours(np.zeros((4, 8), bool)) == []


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (sheet(tmp_path / name, TILE_OF_BENIGN).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_there_has_to_be_an_image_with_a_label_map_of_its_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image to show"):
        contact_sheet(tmp_path / "sheet.png", [TileGroup("benign", [], 3)], title="made")
    with pytest.raises(ValueError, match=r"a: the image is \(48, 48\), its label map \(2, 2\)"):
        replace(TILE_OF_BENIGN, label_map=np.zeros((2, 2), np.uint8))
    assert not list(tmp_path.iterdir())
